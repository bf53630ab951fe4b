// Planted faults that AddressSanitizer finds, which sees the emulated GPUs' memory as it sees the
// host's. Only built with it.
#include "kernels/cuda/emulator/machine.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/cuda/emulator/grid.h"
#include "tests/kernels/cuda/emulator/faulty_kernels.h"

namespace ballast {
namespace {

using emulator::RunGrid;

class MemoryFaults : public testing::Test {
 protected:
  void SetUp() override {
    emulator::Machine::Replace({});
    ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&memory_, kCount * sizeof(float)), cudaSuccess);
  }
  void TearDown() override {
    EXPECT_EQ(cudaFree(memory_), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
  }

  void WriteOnes(int count) {
    EXPECT_EQ(LaunchOnes(memory_, count, stream_), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  }

  static constexpr int kCount = 70;
  cudaStream_t stream_ = nullptr;
  float* memory_ = nullptr;
};

TEST_F(MemoryFaults, AWritePastTheEndOfDeviceMemory) {
  WriteOnes(kCount);
  EXPECT_DEATH(WriteOnes(kCount + 1), "heap-buffer-overflow");
}

TEST_F(MemoryFaults, AReadPastTheEndOfSharedMemory) {
  std::vector<float> out(32);
  EXPECT_DEATH(RunGrid({dim3(1), dim3(32)}, 1, [&] { ReadPastShared(out.data()); }),
               "heap-buffer-overflow");
}

TEST_F(MemoryFaults, DeviceMemoryThatIsFreedBeforeItsLastUse) {
  EXPECT_DEATH(
      {
        cudaFree(memory_);
        WriteOnes(kCount);
      },
      "heap-use-after-free");
}

}  // namespace
}  // namespace ballast
