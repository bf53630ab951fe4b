// Bytes and FLOPs of kernels, counted by hand.
#include "bench/cuda/kernel_work.h"

#include <gtest/gtest.h>

namespace ballast::bench {
namespace {

TEST(KernelWork, TheSlowestLimitIsTheFloor) {
  const GpuLimits limits = {100, 10, 1000};
  const Floor memory = FloorOf({500, 900, 1, 1}, limits);
  EXPECT_EQ(memory.seconds, 5);
  EXPECT_STREQ(memory.limit, "memory");
  EXPECT_STREQ(FloorOf({500, 900, 51, 0}, limits).limit, "FP32");
  EXPECT_STREQ(FloorOf({500, 900, 0, 5001}, limits).limit, "tensor cores");
}

TEST(KernelWork, AnH100HasItsDatasheetsLimits) {
  EXPECT_EQ(FloorOf({3.35e12, 0, 0, 0}, kH100Sxm).seconds, 1);
  EXPECT_EQ(FloorOf({0, 0, 67e12, 0}, kH100Sxm).seconds, 1);
  EXPECT_EQ(FloorOf({0, 0, 0, 989e12}, kH100Sxm).seconds, 1);
}

TEST(KernelWork, AProductReadsItsWeightsOncePerTileOfRows) {
  // Exact tiles: 32 rows, 64 outputs.
  KernelWork work = WorkOfMatmul({DType::kF32, DType::kBF16, DType::kF32, 3, 33, 65, 10});
  EXPECT_EQ(work.bytes, 3 * (33 * 10 * 4 + 65 * 10 * 2 + 33 * 65 * 4));
  EXPECT_EQ(work.traffic, 3 * (2 * 33 * 10 * 4 + 2 * 65 * 10 * 2 + 33 * 65 * 4));
  EXPECT_EQ(work.f32_flops, 3 * 2 * 33 * 65 * 10);
  EXPECT_EQ(work.bf16_flops, 0);
  // Few rows on tensor cores: tiles of 16 rows, 32 outputs.
  work = WorkOfMatmul({DType::kBF16, DType::kBF16, DType::kBF16, 1, 2, 64, 10});
  EXPECT_EQ(work.traffic, 2 * 2 * 10 * 2 + 64 * 10 * 2 + 2 * 64 * 2);
  EXPECT_EQ(work.bf16_flops, 2 * 2 * 64 * 10);
  EXPECT_EQ(work.f32_flops, 0);
}

TEST(KernelWork, GateUpReadsTwoWeights) {
  // Tiles of 128 rows, 64 outputs.
  const KernelWork work = WorkOfGateUp({DType::kBF16, DType::kBF16, DType::kBF16, 2, 129, 65, 10});
  EXPECT_EQ(work.bytes, 2 * (129 * 10 * 2 + 2 * 65 * 10 * 2 + 129 * 65 * 2));
  EXPECT_EQ(work.traffic, 2 * (2 * 129 * 10 * 2 + 2 * 2 * 65 * 10 * 2 + 129 * 65 * 2));
  EXPECT_EQ(work.bf16_flops, 2 * 2 * 2 * 129 * 65 * 10);
}

TEST(KernelWork, ExpertsAreTheirKernelsOneAfterAnother) {
  const KernelWork work =
      WorkOfRunExperts({DType::kBF16, DType::kBF16, DType::kBF16, 2, 16, 8, 10}, 5);
  const double lists = 2 * 16 * (2 * 4 + 16) + 5 * (160 + 24);
  const double copies = 2 * (2 * 16 * 10 * 2) + 2 * 16 * 8;
  const double gate_up = 2 * (16 * 10 * 2 + 2 * 8 * 10 * 2 + 16 * 8 * 2);
  const double down = 2 * (16 * 8 * 2 + 10 * 8 * 2 + 16 * 10 * 4);
  EXPECT_EQ(work.bytes, lists + copies + gate_up + down);
  EXPECT_EQ(work.bf16_flops, 3 * 2 * 2 * 16 * 8 * 10);
}

TEST(KernelWork, DecodeReadsEachSequencesKeysAndValuesOnce) {
  // 5 sequences of 100 keys, 2 kv heads with 8 query heads each: a tile holds them.
  const KvCache cache{nullptr, DType::kBF16, 0, 2, 64, 32, false};
  const KernelWork work = WorkOfAttention({cache, 16, DType::kF32, 5, 1, 100});
  const double q_and_out = 5 * 16 * (64 * 2 + 32 * 4);
  EXPECT_EQ(work.bytes, 5 * 100 * 2 * (64 + 32) * 2 + q_and_out);
  EXPECT_EQ(work.traffic, work.bytes);
  EXPECT_EQ(work.bf16_flops, 2 * 5 * 100 * 16 * (64 + 32));
}

TEST(KernelWork, PrefillReadsThemOncePerTileAndSeesEarlierKeysOnly) {
  // 400 rows of one head, tiles of 16: 25 of them.
  const KvCache cache{nullptr, DType::kBF16, 0, 1, 64, 64, false};
  const KernelWork work = WorkOfAttention({cache, 1, DType::kF32, 300, 400, 400});
  const double seen = 300 * (400 * 401 / 2);
  EXPECT_EQ(work.bf16_flops, 2 * seen * (64 + 64));
  EXPECT_DOUBLE_EQ(work.traffic, seen * 25 / 400 * (64 + 64) * 2 + 300 * 400 * (64 * 2 + 64 * 4));
}

TEST(KernelWork, SplitAttentionLeavesAndReadsItsParts) {
  // One sequence, one head: its 4 partitions run at once.
  const KvCache cache{nullptr, DType::kF32, 0, 1, 10, 6, true};
  const KernelWork work = WorkOfAttention({cache, 1, DType::kF32, 1, 1, 1000});
  EXPECT_EQ(work.bytes, 1000 * 10 * 4 + (10 + 6) * 4);
  EXPECT_EQ(work.traffic, work.bytes + 2 * 4 * (6 + 2) * 4);
  EXPECT_EQ(work.f32_flops, 2 * 1000 * (10 + 6));
}

TEST(KernelWork, RowsMoveOnce) {
  EXPECT_EQ(WorkOfEmbed(DType::kBF16, 3, 10).bytes, 3 * 10 * (2 + 4));
  EXPECT_EQ(WorkOfRmsNorm(DType::kBF16, 3, 10).bytes, 3 * 10 * (4 + 2) + 10 * 4);
  EXPECT_EQ(WorkOfConvert(DType::kF32, DType::kBF16, 3, 10).bytes, 3 * 10 * (4 + 2));
  EXPECT_EQ(WorkOfRope(DType::kF32, 3, 2, 10, 4).bytes, 3 * 2 * 10 * 8 + 3 * 4 * 4);
  EXPECT_EQ(WorkOfRope(DType::kF32, 3, 2, 10, 4).f32_flops, 3 * 3 * 2 * 4);
  EXPECT_EQ(WorkOfCopyRows(DType::kBF16, 3, 10).bytes, 2 * 3 * 10 * 2 + 3 * 8);
  // 8 rows in, one that is added to, in and out; addresses and weights.
  EXPECT_EQ(WorkOfCombine(3, 10, 8).bytes, 3 * 10 * (8 + 2) * 4 + 3 * 8 * (8 + 4));
  EXPECT_EQ(WorkOfCombine(3, 10, 8).f32_flops, 3 * 10 * 17);
  EXPECT_EQ(WorkOfRoute(3, 64, 8).bytes, 3 * 64 * 4 + 3 * 8 * 8);
  EXPECT_EQ(WorkOfQuantize(DType::kF32, 3, 300, 128).bytes, 3 * 300 * 5 + 3 * 3 * 4);
  const KvCache cache{nullptr, DType::kBF16, 0, 2, 6, 5, false};
  EXPECT_EQ(WorkOfWriteKv(cache, 3).bytes, 3 * 2 * 11 * (4 + 2));
}

TEST(KernelWork, ADrawReadsItsRowTwiceAndFromMemoryOnce) {
  const KernelWork work = WorkOfSample(2, 1000);
  EXPECT_EQ(work.traffic - work.bytes, 2 * 1000 * 4);
  EXPECT_EQ(work.bytes, 2 * (1000 * 4 + sizeof(SampleParameters) + 4));
}

}  // namespace
}  // namespace ballast::bench
