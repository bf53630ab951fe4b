// CUDA graphs in the emulator: what is captured runs when it is launched, with the memory of then.
#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "kernels/cuda/emulator/machine.h"
#include "tests/kernels/cuda/emulator/sample_kernels.h"

namespace ballast {
namespace {

using ::testing::Each;

constexpr int kCount = 256;
constexpr size_t kBytes = kCount * sizeof(float);

class GraphsTest : public testing::Test {
 protected:
  GraphsTest() {
    emulator::Machine::Replace({});
    EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
    cudaGetLastError();
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(cudaMalloc(&a_, kBytes), cudaSuccess);
    EXPECT_EQ(cudaMalloc(&b_, kBytes), cudaSuccess);
    EXPECT_EQ(cudaMallocHost(&pinned_, kBytes), cudaSuccess);
  }
  void Begin() {
    EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), cudaSuccess);
  }
  cudaGraphExec_t End() {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaErrorInvalidValue) << "a stale handle";
    return executable;
  }
  std::vector<float> Read(const float* data) {
    std::vector<float> host(kCount);
    EXPECT_EQ(cudaMemcpyAsync(host.data(), data, kBytes, cudaMemcpyDeviceToHost, stream_),
              cudaSuccess);
    return host;
  }

  cudaStream_t stream_ = nullptr;
  float* a_ = nullptr;
  float* b_ = nullptr;
  float* pinned_ = nullptr;
};

TEST_F(GraphsTest, WhatIsCapturedRunsAtEachLaunchAndNotBefore) {
  std::vector<float> numbers(kCount, 1.0f);
  EXPECT_EQ(cudaMemcpyAsync(b_, numbers.data(), kBytes, cudaMemcpyHostToDevice, stream_),
            cudaSuccess);
  Begin();
  EXPECT_EQ(cudaMemcpyAsync(a_, pinned_, kBytes, cudaMemcpyHostToDevice, stream_), cudaSuccess);
  EXPECT_EQ(LaunchReverse(a_, b_, 2, 128, stream_), cudaSuccess);
  const cudaGraphExec_t graph = End();
  EXPECT_THAT(Read(b_), Each(1.0f));
  for (const float value : {2.0f, 3.0f}) {
    std::fill_n(pinned_, kCount, value);
    EXPECT_EQ(cudaGraphLaunch(graph, stream_), cudaSuccess);
    EXPECT_THAT(Read(b_), Each(value));
  }
  EXPECT_EQ(cudaGraphExecDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaGraphLaunch(graph, stream_), cudaErrorInvalidValue);
}

TEST_F(GraphsTest, RefusesWhatACaptureMayNotContain) {
  std::vector<float> pageable(kCount);
  cudaEvent_t event = nullptr;
  EXPECT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  cudaStream_t other = nullptr;
  EXPECT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), cudaErrorInvalidValue);
  Begin();
  EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), cudaErrorIllegalState);
  EXPECT_EQ(cudaMemcpyAsync(a_, pageable.data(), kBytes, cudaMemcpyHostToDevice, stream_),
            cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamQuery(stream_), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaEventRecord(event, stream_), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamWaitEvent(stream_, event, 0), cudaErrorStreamCaptureUnsupported);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 16), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaFree(b_), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamSynchronize(other), cudaSuccess) << "another stream is not captured";
  End();
  EXPECT_EQ(cudaFree(b_), cudaSuccess);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorIllegalState);
}

}  // namespace
}  // namespace ballast
