#include "engine/moe/placement.h"

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::ElementsAre;

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

}  // namespace
}  // namespace ballast
