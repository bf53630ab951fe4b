#include "engine/moe/replicas.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/balance_cases.h"

namespace ballast {
namespace {

using testing::ElementsAre;

TEST(BuildReplicas, FindsEveryExpertsSlots) {
  Replicas replicas;
  BuildReplicas({3, 2, {2, 0, 1, -1, 0, 2}}, 4, {}, replicas);
  EXPECT_THAT(replicas.SlotsOf(0), ElementsAre(1, 4));
  EXPECT_THAT(replicas.SlotsOf(1), ElementsAre(2));
  EXPECT_THAT(replicas.SlotsOf(2), ElementsAre(0, 5));
  EXPECT_TRUE(replicas.SlotsOf(3).empty());
  EXPECT_THAT(replicas.shared, ElementsAre(0, 2));
  EXPECT_THAT(replicas.SharedSlotsOf(0), ElementsAre(0, 1));
  EXPECT_TRUE(replicas.SharedSlotsOf(1).empty());
  EXPECT_THAT(replicas.SharedSlotsOf(2), ElementsAre(4, 5));
}

TEST(BuildReplicas, PlainSlotIsLocalThenNearThenSpreadBySource) {
  // One expert on ranks 1, 2 and 3; ranks 0 and 1 are one node, 2, 3 and 4 another.
  const LayerPlacement placement{5, 1, {-1, 0, 0, 0, -1}};
  Replicas replicas;
  BuildReplicas(placement, 1, {}, replicas);
  EXPECT_THAT(replicas.plain_slot, ElementsAre(1, 1, 2, 3, 2));
  const std::vector<int32_t> node = {7, 7, 9, 9, 9};
  BuildReplicas(placement, 1, node, replicas);
  EXPECT_THAT(replicas.plain_slot, ElementsAre(1, 1, 2, 3, 2));
  const std::vector<int32_t> other = {9, 7, 9, 7, 7};
  BuildReplicas(placement, 1, other, replicas);
  EXPECT_THAT(replicas.plain_slot, ElementsAre(2, 1, 2, 3, 1));
}

TEST(BuildReplicas, ReusesWhatHeldAnotherPlacement) {
  Random random(1);
  Replicas used;
  for (int round = 0; round < 50; ++round) {
    const LayerShape shape{random(1, 9), random(1, 20), 25};
    const LayerPlacement placement = RandomPlacement(shape, random);
    BuildReplicas(placement, shape.experts, {}, used);
    Replicas fresh;
    BuildReplicas(placement, shape.experts, {}, fresh);
    EXPECT_EQ(used.slot, fresh.slot);
    EXPECT_EQ(used.begin, fresh.begin);
    EXPECT_EQ(used.plain_slot, fresh.plain_slot);
    EXPECT_EQ(used.rank_shared_slot, fresh.rank_shared_slot);
  }
}

TEST(BuildReplicas, EndsOnAnExpertTwiceOnARank) {
  Replicas replicas;
  EXPECT_DEATH(BuildReplicas({1, 2, {0, 0}}, 1, {}, replicas), "CHECK failed");
  EXPECT_DEATH(BuildReplicas({1, 2, {0, 1}}, 1, {}, replicas), "CHECK failed");
}

}  // namespace
}  // namespace ballast
