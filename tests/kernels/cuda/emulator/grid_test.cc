// The emulator runs what hardware would, and finds a planted fault of each kind.
#include "kernels/cuda/emulator/grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "tests/kernels/cuda/emulator/sample_kernels.h"

namespace ballast {
namespace {

using emulator::BlockShape;
using emulator::RunGrid;
using ::testing::Each;
using ::testing::HasSubstr;

BlockShape Shape(unsigned blocks, unsigned threads, size_t shared_bytes = 0) {
  return {dim3(blocks), dim3(threads), shared_bytes};
}

TEST(Emulator, EveryThreadOfEveryBlockRunsOnce) {
  const BlockShape shape{dim3(3, 2), dim3(4, 3, 2), 0};
  std::vector<int> counts(6 * 24);
  EXPECT_EQ(RunGrid(shape, 1, [&] { NumberThreads(counts.data()); }), "");
  EXPECT_THAT(counts, Each(1));
}

int64_t CountNaN(const std::vector<float>& values) {
  return std::count_if(values.begin(), values.end(), [](float value) { return std::isnan(value); });
}

std::vector<float> Counting(int count) {
  std::vector<float> values(count);
  for (int i = 0; i < count; ++i) values[i] = static_cast<float>(i);
  return values;
}

TEST(Emulator, ABarrierMakesSharedMemoryWhole) {
  const std::vector<float> in = Counting(256);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<float> out(256);
    EXPECT_EQ(RunGrid(Shape(2, 128), seed, [&] { Reverse(in.data(), out.data(), true); }), "");
    for (int i = 0; i < 256; ++i) ASSERT_EQ(out[i], in[i / 128 * 128 + 127 - i % 128]);
  }
}

TEST(Emulator, ShufflesExchangeLanes) {
  const std::vector<float> in = Counting(64);
  std::vector<float> out(64);
  EXPECT_EQ(RunGrid(Shape(1, 64), 3, [&] { SumOfWarp(in.data(), out.data()); }), "");
  EXPECT_EQ(out[0], 31 * 16);
  EXPECT_EQ(out[63], 31 * 16 + 32 * 32);
}

TEST(Emulator, PartsOfAWarpVoteByThemselves) {
  std::vector<uint32_t> out(32);
  EXPECT_EQ(RunGrid(Shape(1, 32), 4, [&] { Votes(out.data()); }), "");
  EXPECT_EQ(out[0], 0xaau);
  EXPECT_EQ(out[31], 7u);
}

TEST(Emulator, AsynchronousCopiesLandWhenWaitedFor) {
  const std::vector<float> in = Counting(64);
  std::vector<float> out(64);
  const BlockShape shape = Shape(1, 64, 64 * sizeof(float));
  EXPECT_EQ(RunGrid(shape, 5, [&] { CopyThrough(in.data(), out.data(), true); }), "");
  for (int i = 0; i < 64; ++i) EXPECT_EQ(out[i], in[63 - i]);
}

// Of a copy's 16 bytes those past its count are 0, and are not read: there is nothing there.
TEST(Emulator, ACopyOfAPartFillsUpWithZeros) {
  const auto in = std::make_unique<float>(3.0f);
  std::vector<float> out(4, 7.0f);
  EXPECT_EQ(RunGrid(Shape(1, 1), 5, [&] { CopyPart(in.get(), out.data(), 4); }), "");
  EXPECT_THAT(out, ::testing::ElementsAre(3.0f, 0.0f, 0.0f, 0.0f));
}

// out [16, 8] = a [16, 16] * b [16, 8], through shared memory, ldmatrix and mma.
TEST(Emulator, MatrixFragmentsMultiply) {
  std::vector<__nv_bfloat16> a(256);
  std::vector<__nv_bfloat16> b(128);
  for (int i = 0; i < 256; ++i) a[i] = __float2bfloat16(static_cast<float>(i % 23 - 11));
  for (int i = 0; i < 128; ++i) b[i] = __float2bfloat16(static_cast<float>(i % 19 - 9));
  std::vector<float> out(128);
  EXPECT_EQ(RunGrid(Shape(1, 32), 6, [&] { Multiply(a.data(), b.data(), out.data()); }), "");
  for (int row = 0; row < 16; ++row) {
    for (int col = 0; col < 8; ++col) {
      float sum = 0;  // of small integers: exact
      for (int k = 0; k < 16; ++k) {
        sum += __bfloat162float(a[row * 16 + k]) * __bfloat162float(b[k * 8 + col]);
      }
      EXPECT_EQ(out[row * 8 + col], sum) << row << ", " << col;
    }
  }
}

TEST(Emulator, AtomicsCountEveryThread) {
  int total = 0;
  EXPECT_EQ(RunGrid(Shape(5, 33), 7, [&] { CountAll(&total); }), "");
  EXPECT_EQ(total, 165);
}

TEST(EmulatorFinds, AMissingBarrier) {
  const std::vector<float> in = Counting(128);
  int64_t wrong = 0;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    std::vector<float> out(128);
    EXPECT_EQ(RunGrid(Shape(1, 128), seed, [&] { Reverse(in.data(), out.data(), false); }), "");
    wrong += CountNaN(out);
  }
  EXPECT_GT(wrong, 0);
}

TEST(EmulatorFinds, ACopyReadBeforeItIsWaitedFor) {
  const std::vector<float> in = Counting(64);
  std::vector<float> out(64);
  const BlockShape shape = Shape(1, 64, 64 * sizeof(float));
  EXPECT_EQ(RunGrid(shape, 8, [&] { CopyThrough(in.data(), out.data(), false); }), "");
  EXPECT_GT(CountNaN(out), 0);
}

TEST(EmulatorFinds, ABarrierThatNotAllThreadsReach) {
  EXPECT_THAT(RunGrid(Shape(1, 64), 9, [] { BarrierForSome(); }), HasSubstr("has ended"));
}

TEST(EmulatorFinds, BarriersAtDifferentPlaces) {
  EXPECT_THAT(RunGrid(Shape(1, 64), 10, [] { TwoBarriers(); }), HasSubstr("waits at"));
}

TEST(EmulatorFinds, AWarpOperationWithoutALaneOfItsMask) {
  std::vector<float> out(32);
  EXPECT_THAT(RunGrid(Shape(1, 32), 11, [&] { ShuffleOfSome(out.data()); }),
              HasSubstr("lane 5, which has ended"));
}

TEST(EmulatorFinds, LanesThatDisagree) {
  std::vector<float> out(32);
  EXPECT_THAT(RunGrid(Shape(1, 32), 12, [&] { DifferentShuffles(out.data()); }),
              HasSubstr("disagree"));
}

TEST(EmulatorFinds, ALaneOutsideItsOwnMask) {
  std::vector<uint32_t> out(32);
  EXPECT_THAT(RunGrid(Shape(1, 32), 13, [&] { ForeignMask(out.data()); }),
              HasSubstr("not in its own mask"));
}

TEST(EmulatorFinds, ACopyThatNobodyWaitsFor) {
  const std::vector<float> in = Counting(32);
  EXPECT_THAT(RunGrid(Shape(1, 32), 14, [&] { ForgottenCopy(in.data()); }), HasSubstr("cp.async"));
}

TEST(EmulatorFinds, MisalignedCopies) {
  const std::vector<float4> in(1);
  EXPECT_THAT(RunGrid(Shape(1, 1), 15, [&] { MisalignedCopy(&in[0].x); }),
              HasSubstr("not aligned"));
}

TEST(EmulatorFinds, ACopyThatReadsMoreThanItWrites) {
  const std::vector<float> in(5);
  std::vector<float> out(4);
  EXPECT_THAT(RunGrid(Shape(1, 1), 15, [&] { CopyPart(in.data(), out.data(), 17); }),
              HasSubstr("reads 17 bytes"));
}

TEST(EmulatorFinds, MisalignedRowsOfMatrices) {
  const float in = 1.0f;
  EXPECT_THAT(RunGrid(Shape(1, 32), 15, [&] { MisalignedMatrices(&in); }),
              HasSubstr("ldmatrix from an address that is not 16-byte aligned"));
}

TEST(EmulatorFinds, LaunchesThatHardwareRefuses) {
  EXPECT_THAT(RunGrid(Shape(1, 1025), 16, [] {}), HasSubstr("1025 threads"));
  EXPECT_THAT(RunGrid(Shape(0, 32), 16, [] {}), HasSubstr("without blocks"));
  EXPECT_THAT(RunGrid(Shape(1, 32, size_t{228} << 10), 16, [] {}), HasSubstr("shared memory"));
}

TEST(Emulator, GoesOnAfterAFault) {
  EXPECT_NE(RunGrid(Shape(1, 64), 17, [] { BarrierForSome(); }), "");
  std::vector<int> counts(24);
  EXPECT_EQ(RunGrid(Shape(1, 24), 18, [&] { NumberThreads(counts.data()); }), "");
  EXPECT_THAT(counts, Each(1));
}

}  // namespace
}  // namespace ballast
