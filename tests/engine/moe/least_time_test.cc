#include "engine/moe/least_time.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/balance_cases.h"

namespace ballast {
namespace {

using testing::ElementsAre;

TEST(LeastTime, PassesUnitsAlongAChainOfRanks) {
  // Expert i stands on ranks i and i + 1; all units begin on rank 0's side.
  Replicas replicas;
  BuildReplicas({4, 2, {0, -1, 0, 1, 1, 2, 2, -1}}, 3, {}, replicas);
  std::vector<int64_t> units = {40, 0, 0, 20, 0, 20, 0, 0};
  FlowScratch scratch;
  LeastTime out;
  FindLeastTime(replicas, {}, {}, units, scratch, out);
  EXPECT_EQ(out.time, 20);
  EXPECT_THAT(units, ElementsAre(20, 0, 20, 0, 20, 0, 20, 0));
  EXPECT_THAT(out.cut_ranks, ElementsAre(0, 1, 2, 3));
}

TEST(LeastTime, NamesTheRanksThatAreTooFew) {
  // Experts 0 and 1 stand on ranks 0 and 1 only; expert 2 also on rank 2, which is idle.
  Replicas replicas;
  BuildReplicas({3, 3, {0, 1, -1, 0, 1, 2, 2, -1, -1}}, 3, {}, replicas);
  std::vector<int64_t> units = {30, 10, 0, 0, 0, 7, 0, 0, 0};
  FlowScratch scratch;
  LeastTime out;
  FindLeastTime(replicas, {}, {}, units, scratch, out);
  EXPECT_EQ(out.time, 20);
  EXPECT_THAT(out.cut_ranks, ElementsAre(0, 1));
}

TEST(LeastTime, KeptUnitsLeaveLast) {
  Replicas replicas;
  BuildReplicas({2, 2, {0, 1, 0, 1}}, 2, {}, replicas);
  const std::vector<int64_t> keep = {10, 0, 0, 0};
  std::vector<int64_t> units = {10, 6, 0, 0};
  FlowScratch scratch;
  LeastTime out;
  FindLeastTime(replicas, {}, keep, units, scratch, out);
  EXPECT_EQ(out.time, 8);
  EXPECT_THAT(units, ElementsAre(8, 0, 2, 6));
}

TEST(LeastTime, KeepsEveryDemandAndEveryCapacity) {
  Random random(1);
  FlowScratch scratch;
  LeastTime out;
  for (int round = 0; round < 300; ++round) {
    const Layer layer = RandomLayer({random(1, 9), random(1, 20), 21, 40, 4}, random);
    const std::vector<int32_t> speed = RandomSpeeds(layer.placement.ranks, random);
    const FlowCosts costs{random(1, 700), speed};
    std::vector<int64_t> units(layer.placement.slot_expert.size(), 0);
    for (int expert = 0; expert < layer.experts; ++expert) {
      units[layer.replicas.SlotsOf(expert)[0]] = layer.RowsOf(expert);
    }
    FindLeastTime(layer.replicas, costs, {}, units, scratch, out);
    std::vector<int64_t> load(static_cast<size_t>(layer.placement.ranks), 0);
    for (int expert = 0; expert < layer.experts; ++expert) {
      int64_t sum = 0;
      for (const int32_t slot : layer.replicas.SlotsOf(expert)) {
        EXPECT_GE(units[slot], 0);
        sum += units[slot];
        load[layer.replicas.slot_rank[slot]] += units[slot];
      }
      EXPECT_EQ(sum, layer.RowsOf(expert));
    }
    for (int rank = 0; rank < layer.placement.ranks; ++rank) {
      EXPECT_LE(TimeOfUnits(costs, rank, load[rank]), out.time);
    }
  }
}

}  // namespace
}  // namespace ballast
