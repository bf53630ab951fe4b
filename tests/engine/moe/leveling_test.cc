#include "engine/moe/leveling.h"

#include <algorithm>
#include <numeric>

#include "engine/moe/imbalance.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/balance_cases.h"

namespace ballast {
namespace {

std::vector<LayerShape> Shapes() {
  return {{1, 3, 5}, {2, 3, 2},          {3, 5, 3},          {4, 16, 5, 50, 7},
          {8, 4, 2}, {8, 64, 9, 40, 16}, {32, 256, 9, 20, 9}};
}

// Loads in millions of rows, so that whole rows hardly round.
std::vector<int32_t> RandomRows(int experts, Random& random) {
  std::vector<int32_t> rows;
  for (int expert = 0; expert < experts; ++expert) {
    rows.push_back(random(0, 1000) * random(1, 1000) + (expert == 0 ? 1 : 0));
  }
  return rows;
}

double ExactHighest(const LayerPlacement& placement, const std::vector<int32_t>& rows,
                    const std::vector<int32_t>& speed) {
  CostParameters costs;
  costs.speed = speed;
  Replicas replicas;
  BuildReplicas(placement, static_cast<int>(rows.size()), {}, replicas);
  PredictionScratch scratch;
  const Assignment& exact = PredictLayer(rows, replicas, costs, scratch);
  double speeds = 0;
  for (int rank = 0; rank < placement.ranks; ++rank) {
    speeds += SpeedOf(costs, rank) / static_cast<double>(kNominalSpeed);
  }
  const double sum = std::accumulate(rows.begin(), rows.end(), 0.0);
  return static_cast<double>(exact.value) / (sum / speeds);
}

double LoadOfAll(const Leveling& leveling) {
  double sum = 0;
  for (int rank = 0; rank < leveling.ranks(); ++rank) {
    sum += leveling.LevelsOf(0)[rank] * leveling.SpeedOf(rank);
  }
  return sum;
}

TEST(Leveling, ItsHighestLevelIsThatOfTheExactFlow) {
  Random random(1);
  for (const LayerShape& shape : Shapes()) {
    for (int i = 0; i < 20; ++i) {
      const LayerPlacement placement = RandomPlacement(shape, random);
      const std::vector<int32_t> rows = RandomRows(shape.experts, random);
      const std::vector<int32_t> speed =
          i % 2 == 0 ? std::vector<int32_t>() : RandomSpeeds(shape.ranks, random);
      Leveling leveling;
      leveling.Start(placement, rows.size(), std::vector<double>(rows.begin(), rows.end()), speed);
      const double exact = ExactHighest(placement, rows, speed);
      EXPECT_GE(leveling.Highest(), exact * (1 - 1e-4));
      EXPECT_LE(leveling.Highest(), exact * (1 + 3 * kLevelStep)) << shape.ranks;
      EXPECT_NEAR(LoadOfAll(leveling), shape.ranks, 1e-9 * shape.ranks);
      EXPECT_LE(leveling.Height(), leveling.Highest() * (1 + 1e-9));
      EXPECT_GE(leveling.Height(), 1 - 1e-9);
    }
  }
}

TEST(Leveling, AChangedPlacementIsLevelledAsIfItWereNew) {
  Random random(2);
  for (const LayerShape& shape : Shapes()) {
    LayerPlacement placement = RandomPlacement(shape, random);
    const std::vector<int32_t> rows = RandomRows(shape.experts, random);
    Leveling leveling;
    leveling.Start(placement, rows.size(), std::vector<double>(rows.begin(), rows.end()), {});
    for (int i = 0; i < 60; ++i) {
      // Two slots trade their experts, or one gets a copy of another's.
      const int slots = static_cast<int>(placement.slot_expert.size());
      const int a = random(0, slots - 1);
      const int b = random(0, slots - 1);
      LayerPlacement next = placement;
      std::vector<SlotChange> changes;
      if (placement.slot_expert[a] < 0 || placement.slot_expert[b] == placement.slot_expert[a]) {
        continue;
      }
      next.slot_expert[b] = placement.slot_expert[a];
      changes.push_back({b, next.slot_expert[b]});
      if (placement.slot_expert[b] >= 0 && i % 2 == 0) {
        next.slot_expert[a] = placement.slot_expert[b];
        changes.push_back({a, next.slot_expert[a]});
      }
      if (!ValidatePlacement(next, 0, shape.experts, shape.ranks).ok()) {
        continue;
      }
      placement = next;
      leveling.Change(changes);
      EXPECT_EQ(leveling.slot_expert(), placement.slot_expert);
      EXPECT_NEAR(LoadOfAll(leveling), shape.ranks, 1e-9 * shape.ranks);
      EXPECT_LE(leveling.Highest(), ExactHighest(placement, rows, {}) * (1 + 3 * kLevelStep));
      EXPECT_GE(leveling.Highest(), ExactHighest(placement, rows, {}) * (1 - 1e-4));
    }
  }
}

TEST(Leveling, SeveralLoadsAreLevelledEachForItself) {
  // Expert 0 may run on both ranks, 1 on rank 0 and 2 on rank 1 alone.
  const LayerPlacement placement{2, 2, {0, 1, 0, 2}};
  Leveling leveling;
  leveling.Start(placement, 3, std::vector<double>{2, 2, 0, 1, 0, 3}, {});
  EXPECT_THAT(leveling.UnitsOf(0), testing::ElementsAre(testing::DoubleNear(0, 1e-9), 1, 1, 0));
  EXPECT_THAT(leveling.UnitsOf(1), testing::ElementsAre(0.5, 0, testing::DoubleNear(0, 1e-9), 1.5));
  EXPECT_DOUBLE_EQ(leveling.Highest(), (1 + 1.5) / 2);
}

}  // namespace
}  // namespace ballast
