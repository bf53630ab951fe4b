// Planted faults that every build finds: memory that nobody wrote, and more than a block has.
#include "kernels/cuda/emulator/block.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "kernels/cuda/emulator/grid.h"
#include "kernels/cuda/emulator/machine.h"
#include "tests/kernels/cuda/emulator/faulty_kernels.h"

namespace ballast {
namespace {

using emulator::RunGrid;
using ::testing::HasSubstr;

TEST(EmulatorFinds, SharedMemoryThatNobodyWrote) {
  float out = 0.0f;
  EXPECT_EQ(RunGrid({dim3(1), dim3(32)}, 1, [&] { ReadShared(&out, true); }), "");
  EXPECT_EQ(out, 1.0f);
  EXPECT_EQ(RunGrid({dim3(1), dim3(32)}, 2, [&] { ReadShared(&out, false); }), "");
  EXPECT_TRUE(std::isnan(out));
}

TEST(EmulatorFinds, DeviceMemoryThatNobodyWrote) {
  emulator::Machine::Replace({});
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  float* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, 2 * sizeof(float)), cudaSuccess);
  EXPECT_EQ(LaunchOnes(memory, 1, stream), cudaSuccess);
  float out[2] = {};
  EXPECT_EQ(cudaMemcpyAsync(out, memory, sizeof(out), cudaMemcpyDeviceToHost, stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_TRUE(std::isnan(out[1]));
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST(EmulatorFinds, MoreSharedMemoryThanABlockHas) {
  constexpr size_t kDynamic = size_t{44} << 10;
  float out = 0.0f;
  const auto run = [&](size_t dynamic, const std::function<void()>& kernel) {
    return RunGrid({dim3(1), dim3(1), dynamic}, 1, kernel);
  };
  EXPECT_THAT(run(0, [&] { MuchShared(&out); }), HasSubstr("49156 bytes, more than 49152"));
  EXPECT_EQ(run(kDynamic, [&] { SomeShared(&out); }), "");
  EXPECT_EQ(out, 1.0f);
  EXPECT_THAT(run(kDynamic + 16, [&] { SomeShared(&out); }), HasSubstr("shared memory: 49168"));
  EXPECT_THAT(run(kDynamic + (4 << 10) + 1, [] {}), HasSubstr("49153 bytes of dynamic"));
}

TEST(EmulatorFinds, VectorsThatAreNotAlignedAsTheirTypeIs) {
  alignas(16) const float in[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  alignas(16) float out[8] = {};
  const auto run = [&](int loaded_at, int stored_at) {
    return RunGrid({dim3(1), dim3(1)}, 1, [&] { CopyVector(in, loaded_at, out, stored_at); });
  };
  EXPECT_EQ(run(4, 0), "");
  EXPECT_EQ(out[3], 8.0f);
  EXPECT_THAT(run(1, 0), HasSubstr("not 16-byte aligned"));
  EXPECT_THAT(run(0, 2), HasSubstr("not 16-byte aligned"));
}

TEST(EmulatorFinds, GridsLargerThanHardwareTakes) {
  EXPECT_THAT(RunGrid({dim3(0x80000000u), dim3(1)}, 1, [] {}), HasSubstr("a dimension"));
  EXPECT_THAT(RunGrid({dim3(1, 65536), dim3(1)}, 1, [] {}), HasSubstr("a dimension"));
  EXPECT_THAT(RunGrid({dim3(1), dim3(1, 1, 65)}, 1, [] {}), HasSubstr("a dimension"));
}

}  // namespace
}  // namespace ballast
