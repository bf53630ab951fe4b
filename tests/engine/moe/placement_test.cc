#include "engine/moe/placement.h"

#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string Message(const LayerPlacement& placement, int experts, int ranks) {
  return std::string(ValidatePlacement(placement, 7, experts, ranks).message());
}

TEST(EvenPlacement, SlotIHoldsExpertIModuloExperts) {
  const LayerPlacement placement = EvenPlacement(8, 3);
  EXPECT_EQ(placement.slots_per_rank, 3);
  EXPECT_THAT(placement.slot_expert, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 0));
  EXPECT_THAT(ExpertsOfRank(placement, 2), ElementsAre(6, 7, 0));
}

TEST(EvenPlacement, HoldsEveryExpertAndNoneTwiceOnARank) {
  for (int experts = 1; experts <= 40; ++experts) {
    for (int ranks = 1; ranks <= 9; ++ranks) {
      const LayerPlacement placement = EvenPlacement(experts, ranks);
      std::set<int> all;
      for (int rank = 0; rank < ranks; ++rank) {
        const std::vector<int> held = ExpertsOfRank(placement, rank);
        const std::set<int> distinct(held.begin(), held.end());
        EXPECT_EQ(distinct.size(), held.size()) << experts << " experts on " << ranks << " ranks";
        all.insert(distinct.begin(), distinct.end());
      }
      EXPECT_EQ(all.size(), static_cast<size_t>(experts));
    }
  }
}

TEST(EvenPlacement, MoreSlotsThanExpertsHoldReplicas) {
  const LayerPlacement placement = EvenPlacement(8, 4, 3);
  EXPECT_THAT(placement.slot_expert, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3));
}

TEST(EvenPlacement, AnExpertThatWouldStandTwiceOnARankLeavesItsSlotEmpty) {
  const LayerPlacement placement = EvenPlacement(3, 2, 5);
  EXPECT_THAT(placement.slot_expert, ElementsAre(0, 1, 2, -1, -1, 2, 0, 1, -1, -1));
}

TEST(ValidatePlacement, AcceptsEveryEvenPlacementWithRoomForAllExperts) {
  for (int experts = 1; experts <= 20; ++experts) {
    for (int ranks = 1; ranks <= 9; ++ranks) {
      for (int slots = 0; slots <= 25; ++slots) {
        const LayerPlacement placement = EvenPlacement(experts, ranks, slots);
        EXPECT_EQ(ValidatePlacement(placement, 0, experts, ranks).ok(),
                  slots == 0 || ranks * slots >= experts)
            << experts << " experts, " << ranks << " ranks, " << slots << " slots";
      }
    }
  }
}

TEST(ValidatePlacement, NamesLayerRankAndExpert) {
  EXPECT_EQ(Message({2, 2, {0, 1, 2, 2}}, 3, 2),
            "layer 7, rank 1: found expert 2 twice, expected it once at most");
  EXPECT_EQ(Message({2, 2, {0, 1, 2, 3}}, 3, 2),
            "layer 7, rank 1: found expert 3, expected 0 to 2");
  EXPECT_EQ(Message({2, 2, {0, -2, 2, 1}}, 3, 2),
            "layer 7, rank 0: found expert -2, expected 0 to 2");
  EXPECT_EQ(Message({2, 2, {0, -1, 2, 0}}, 3, 2),
            "layer 7: found expert 1 on no rank, expected every expert on one of the 2 ranks at "
            "least");
  EXPECT_THAT(Message({2, 1, {0, 1}}, 3, 2), HasSubstr("2 slots are too few for 3 experts"));
}

TEST(ValidatePlacement, CountsRanksAndSlots) {
  EXPECT_EQ(Message({2, 1, {0, 1}}, 2, 4), "layer 7: found 2 ranks, expected 4");
  EXPECT_EQ(Message({2, 2, {0, 1, 1}}, 2, 2),
            "layer 7: found 3 slots, expected 2 ranks of 2 slots");
  EXPECT_EQ(Message({1, -1, {}}, 2, 1), "layer 7: found 0 slots, expected 1 ranks of -1 slots");
}

}  // namespace
}  // namespace ballast
