// CUDA's runtime over emulated GPUs: what is right runs, what is wrong is found.
#include "kernels/cuda/emulator/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>
#include <vector>

#include "tests/kernels/cuda/emulator/sample_kernels.h"

namespace ballast {
namespace {

using emulator::Machine;
using emulator::MachineOptions;
using ::testing::Each;
using ::testing::HasSubstr;

constexpr int kCount = 256;
constexpr size_t kBytes = kCount * sizeof(float);

cudaStream_t NewStream() {
  cudaStream_t stream = nullptr;
  EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  return stream;
}

float* OnDevice() {
  float* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, kBytes), cudaSuccess);
  return memory;
}

float* Pinned() {
  float* memory = nullptr;
  EXPECT_EQ(cudaMallocHost(&memory, kBytes), cudaSuccess);
  return memory;
}

class RuntimeTest : public testing::Test {
 protected:
  static void Begin(uint64_t seed) {
    MachineOptions options;
    options.seed = seed;
    options.bytes_per_device = 1 << 20;
    Machine::Replace(options);
    EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
    cudaGetLastError();
  }
  void SetUp() override { Begin(1); }
};

TEST_F(RuntimeTest, AStreamRunsItsWorkInOrder) {
  const cudaStream_t stream = NewStream();
  float* const a = OnDevice();
  float* const b = OnDevice();
  std::vector<float> in(kCount);
  for (int i = 0; i < kCount; ++i) in[i] = static_cast<float>(i);
  std::vector<float> out(kCount);
  EXPECT_EQ(cudaMemcpyAsync(a, in.data(), kBytes, cudaMemcpyHostToDevice, stream), cudaSuccess);
  EXPECT_EQ(LaunchReverse(a, b, 2, 128, stream), cudaSuccess);
  EXPECT_EQ(LaunchReverse(b, a, 2, 128, stream), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(out.data(), a, kBytes, cudaMemcpyDeviceToHost, stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(out, in);
}

// Doubles on one stream what another has written; with or without an event between.
int64_t UnorderedReads(uint64_t seed, bool with_event) {
  const cudaStream_t writer = NewStream();
  const cudaStream_t reader = NewStream();
  float* const a = OnDevice();
  float* const b = OnDevice();
  cudaEvent_t written = nullptr;
  EXPECT_EQ(cudaEventCreateWithFlags(&written, cudaEventDisableTiming), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(a, static_cast<int>(seed % 2), kBytes, writer), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(written, writer), cudaSuccess);
  if (with_event) {
    EXPECT_EQ(cudaStreamWaitEvent(reader, written, 0), cudaSuccess);
  }
  EXPECT_EQ(LaunchReverse(a, b, 2, 128, reader), cudaSuccess);
  std::vector<float> out(kCount);
  EXPECT_EQ(cudaMemcpyAsync(out.data(), b, kBytes, cudaMemcpyDeviceToHost, reader), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  return std::count_if(out.begin(), out.end(), [](float value) { return std::isnan(value); });
}

TEST_F(RuntimeTest, AnEventOrdersStreams) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Begin(seed);
    EXPECT_EQ(UnorderedReads(seed, true), 0);
  }
}

TEST_F(RuntimeTest, FindsAMissingEvent) {
  int64_t wrong = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Begin(seed);
    wrong += UnorderedReads(seed, false);
  }
  EXPECT_GT(wrong, 0);
}

TEST_F(RuntimeTest, FindsPinnedMemoryThatIsReusedTooEarly) {
  const cudaStream_t stream = NewStream();
  float* const staging = Pinned();
  float* const a = OnDevice();
  std::vector<float> out(kCount);
  std::fill_n(staging, kCount, 1.0f);
  EXPECT_EQ(cudaMemcpyAsync(a, staging, kBytes, cudaMemcpyHostToDevice, stream), cudaSuccess);
  std::fill_n(staging, kCount, 2.0f);  // the copy has not run
  EXPECT_EQ(cudaMemcpyAsync(out.data(), a, kBytes, cudaMemcpyDeviceToHost, stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_THAT(out, Each(2.0f));
}

TEST_F(RuntimeTest, AKernelThatFailsFailsItsDeviceForGood) {
  const cudaStream_t stream = NewStream();
  EXPECT_EQ(LaunchBarrierForSome(64, stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  EXPECT_THAT(emulator::FaultOfDevice(), HasSubstr("barrier: block (0,0,0): "));
  EXPECT_EQ(LaunchBarrierForSome(32, stream), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

TEST_F(RuntimeTest, WrongArgumentsAreErrors) {
  const cudaStream_t stream = NewStream();
  float* const a = OnDevice();
  std::vector<float> host(kCount);
  EXPECT_EQ(cudaMemcpyAsync(a, host.data(), kBytes, cudaMemcpyDeviceToHost, stream),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(a + 1, host.data(), kBytes, cudaMemcpyHostToDevice, stream),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemsetAsync(host.data(), 0, kBytes, stream), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(host.data()), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(a + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFreeHost(a), cudaErrorInvalidValue);
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  EXPECT_EQ(LaunchReverse(a, a, 1, 2048, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaErrorInvalidResourceHandle);
}

TEST_F(RuntimeTest, MemoryEnds) {
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, (1 << 20) + 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaMalloc(&memory, 1 << 20), cudaSuccess);
  size_t free_bytes = 1;
  size_t total_bytes = 0;
  EXPECT_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  EXPECT_EQ(free_bytes, 0u);
  EXPECT_EQ(total_bytes, size_t{1} << 20);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&memory, 16), cudaSuccess);
}

TEST_F(RuntimeTest, ThreadsUseDevicesOfTheirOwnAtOnce) {
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([rank] {
      EXPECT_EQ(cudaSetDevice(rank), cudaSuccess);
      const cudaStream_t stream = NewStream();
      float* const a = OnDevice();
      float* const b = OnDevice();
      const std::vector<float> in(kCount, static_cast<float>(rank));
      std::vector<float> out(kCount);
      EXPECT_EQ(cudaMemcpyAsync(a, in.data(), kBytes, cudaMemcpyHostToDevice, stream), cudaSuccess);
      for (int i = 0; i < 50; ++i) {
        EXPECT_EQ(LaunchReverse(a, b, 2, 128, stream), cudaSuccess);
        EXPECT_EQ(LaunchReverse(b, a, 2, 128, stream), cudaSuccess);
      }
      EXPECT_EQ(cudaMemcpyAsync(out.data(), a, kBytes, cudaMemcpyDeviceToHost, stream),
                cudaSuccess);
      EXPECT_EQ(out, in);
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

TEST_F(RuntimeTest, AMachineMayHaveNoDevice) {
  MachineOptions options;
  options.devices = 0;
  Machine::Replace(options);
  int count = 1;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  EXPECT_EQ(count, 0);
}

}  // namespace
}  // namespace ballast
