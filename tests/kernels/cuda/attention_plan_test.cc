// How attention is cut into blocks; that no way changes a bit is for attention_test.cc.
#include "kernels/cuda/attention_plan.h"

#include <gtest/gtest.h>

#include <random>

namespace ballast::cuda {
namespace {

const KvCache kGrouped{nullptr, DType::kBF16, 1, 8, 128, 128, false};
const KvCache kLatent{nullptr, DType::kBF16, 1, 1, 576, 512, true};

TEST(AttentionPlan, LongSequencesAreSplitWhereTilesAreFew) {
  EXPECT_GT(PlanAttention(kGrouped, {1, 64, 1, 4096, 0}).splits, 1);
  EXPECT_EQ(PlanAttention(kGrouped, {1, 64, 1, 4096, 0}).tile_rows, 16);
  EXPECT_EQ(PlanAttention(kGrouped, {1, 64, 1, 200, 0}).splits, 0);       // one partition
  EXPECT_EQ(PlanAttention(kGrouped, {256, 64, 256, 4096, 0}).splits, 0);  // many sequences
  EXPECT_EQ(PlanAttention(kGrouped, {512, 64, 1, 4096, 0}).splits, 0);    // prefill
  EXPECT_EQ(PlanAttention(kGrouped, {512, 64, 1, 4096, 0}).tile_rows, 16);
  EXPECT_EQ(PlanAttention(kLatent, {1, 128, 1, 4096, 0}).tile_rows, 16);
  EXPECT_EQ(PlanAttention(kLatent, {1, 128, 1, 4096, 0}).splits, 16);
}

TEST(AttentionPlan, AWindowBoundsThePartitions) {
  EXPECT_EQ(PlanAttention(kGrouped, {1, 64, 1, 1 << 17, 0}).partitions, 512);
  EXPECT_LE(PlanAttention(kGrouped, {1, 64, 1, 1 << 17, 1024}).partitions, 6);
}

TEST(AttentionPlan, ScratchAndSharedMemoryAreBounded) {
  std::mt19937 random(1);
  const auto up_to = [&](int n) { return static_cast<int32_t>(random() % n) + 1; };
  for (int i = 0; i < 2000; ++i) {
    const KvCache cache{nullptr, DType::kBF16, 1, up_to(8), up_to(700), up_to(600), false};
    const int32_t spans = up_to(300);
    const AttentionShape shape{spans + up_to(100) / 2, cache.kv_heads * up_to(64), spans,
                               up_to(100000), up_to(2) == 1 ? 0 : up_to(5000)};
    const AttentionPlan plan = PlanAttention(cache, shape);
    EXPECT_LE(plan.scratch_bytes, MaxAttentionScratchBytes(cache));
    EXPECT_LE(plan.shared_bytes, size_t{47} << 10);
    EXPECT_LE(plan.splits, kMaxAttentionSplits);
  }
}

}  // namespace
}  // namespace ballast::cuda
