#include "engine/moe/counted_placement.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::ElementsAre;

// The most rows that a rank gets when every replica takes an equal share.
double MostLoaded(const LayerPlacement& placement, const std::vector<double>& counts) {
  std::vector<int> replicas(counts.size());
  for (const int expert : placement.slot_expert) {
    if (expert >= 0) ++replicas[expert];
  }
  double most = 0;
  for (int rank = 0; rank < placement.ranks; ++rank) {
    double load = 0;
    for (const int expert : ExpertsOfRank(placement, rank)) {
      if (expert >= 0) load += counts[expert] / replicas[expert];
    }
    most = std::max(most, load);
  }
  return most;
}

TEST(PlacementFromCounts, GivesReplicasToTheExpertWithTheMostRows) {
  const std::vector<double> counts = {90, 10, 20, 30};
  const LayerPlacement placement = PlacementFromCounts(counts, 3, 2);
  // 90 is cut in three: 30 on every rank; then the heaviest of the others go first.
  EXPECT_THAT(placement.slot_expert, ElementsAre(0, 2, 3, 0, 0, 1));
}

TEST(PlacementFromCounts, WithoutRowsIsSpreadEvenly) {
  const std::vector<double> counts(4, 0);
  EXPECT_THAT(PlacementFromCounts(counts, 2, 3).slot_expert, ElementsAre(0, 2, 1, 1, 3, 0));
}

TEST(PlacementFromCounts, LeavesSlotsEmptyWhenAllExpertsStandEverywhere) {
  const std::vector<double> counts = {1, 2};
  const LayerPlacement placement = PlacementFromCounts(counts, 2, 3);
  EXPECT_EQ(std::count(placement.slot_expert.begin(), placement.slot_expert.end(), -1), 2);
  EXPECT_TRUE(ValidatePlacement(placement, 0, 2, 2).ok());
}

TEST(PlacementFromCounts, IsLegalAndFullForAnyCounts) {
  std::mt19937 random(5);
  for (int round = 0; round < 3000; ++round) {
    const int experts = 1 + static_cast<int>(random() % 20);
    const int ranks = 1 + static_cast<int>(random() % 6);
    const int fewest = (experts + ranks - 1) / ranks;
    const int slots = fewest + static_cast<int>(random() % 5);
    std::vector<double> counts;
    for (int e = 0; e < experts; ++e) {
      counts.push_back(random() % 3 == 0 ? 0 : static_cast<double>(random() % 1000));
    }
    const LayerPlacement placement = PlacementFromCounts(counts, ranks, slots);
    const absl::Status valid = ValidatePlacement(placement, 0, experts, ranks);
    ASSERT_TRUE(valid.ok()) << valid;
    const auto filled = std::count_if(placement.slot_expert.begin(), placement.slot_expert.end(),
                                      [](int e) { return e >= 0; });
    ASSERT_EQ(filled, std::min(ranks * slots, ranks * experts));
  }
}

TEST(PlacementFromCounts, BalancesBetterThanTheEvenPlacement) {
  std::mt19937 random(6);
  std::vector<double> counts;
  for (int e = 0; e < 64; ++e)
    counts.push_back(1000.0 / (1 + e) + static_cast<double>(random() % 9));
  const double mean = std::accumulate(counts.begin(), counts.end(), 0.0) / 8;
  EXPECT_LT(MostLoaded(PlacementFromCounts(counts, 8, 9), counts), 1.05 * mean);
  EXPECT_GT(MostLoaded(EvenPlacement(64, 8, 9), counts), 1.5 * mean);
}

}  // namespace
}  // namespace ballast
