#include "engine/moe/imbalance.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/balance_cases.h"

namespace ballast {
namespace {

TEST(PredictedImbalance, IsMaxOverMeanOfTheRanksTimes) {
  const std::vector<LayerPlacement> placements = {EvenPlacement(4, 2)};
  const std::vector<StepLoad> steps = {{4, {50, 10, 30, 10}, 1}};
  EXPECT_DOUBLE_EQ(PredictedImbalance(placements, steps, {}), 60.0 / 50);
}

TEST(PredictedImbalance, IsOneWithoutLoad) {
  const std::vector<LayerPlacement> placements = {EvenPlacement(4, 2)};
  const std::vector<StepLoad> idle = {{4, {0, 0, 0, 0}, 1}};
  EXPECT_EQ(PredictedImbalance(placements, idle, {}), 1);
  EXPECT_EQ(PredictedImbalance(placements, {}, {}), 1);
  EXPECT_EQ(PredictedImbalance({}, {}, {}), 1);
}

TEST(PredictedImbalance, WeighsLayersByTheirRowsAndStepsByTheirWeight) {
  // Layer 0 is 1.5 out of balance with 300 rows, layer 1 even with 100.
  const std::vector<LayerPlacement> placements(2, EvenPlacement(2, 2));
  const std::vector<StepLoad> one = {{2, {225, 75, 50, 50}, 1}};
  EXPECT_DOUBLE_EQ(PredictedImbalance(placements, one, {}), (300 * 1.5 + 100 * 1) / 400);
  // And a step that stands for three, of the same size and even.
  const std::vector<StepLoad> two = {{2, {225, 75, 50, 50}, 1}, {2, {150, 150, 50, 50}, 3}};
  EXPECT_DOUBLE_EQ(PredictedImbalance(placements, two, {}),
                   (300 * 1.5 + 100 + 3 * 400) / (4.0 * 400));
}

TEST(PredictedImbalance, SplitsRowsOverReplicasUnlessTheModeIsOff) {
  // Expert 0 stands on both ranks, expert 1 on rank 1 alone.
  const std::vector<LayerPlacement> placements = {{2, 2, {0, -1, 0, 1}}};
  const std::vector<StepLoad> steps = {{2, {60, 40}, 1}};
  CostParameters costs;
  EXPECT_DOUBLE_EQ(PredictedImbalance(placements, steps, costs), 1);
  costs.mode = BalanceMode::kOff;
  EXPECT_DOUBLE_EQ(PredictedImbalance(placements, steps, costs), 70.0 / 50);
}

TEST(PredictedImbalance, LeavesSpillsAside) {
  const std::vector<LayerPlacement> placements = {EvenPlacement(2, 2)};
  const std::vector<StepLoad> steps = {{2, {9000, 1000}, 1}};
  CostParameters costs;
  costs.mode = BalanceMode::kSpill;
  costs.max_imports = 2;
  EXPECT_DOUBLE_EQ(PredictedImbalance(placements, steps, costs), 1.8);
}

TEST(PredictedImbalance, CountsTimeAndNotRowsOfASlowRank) {
  const std::vector<LayerPlacement> placements = {EvenPlacement(2, 2)};
  const std::vector<StepLoad> steps = {{2, {100, 100}, 1}};
  CostParameters costs;
  costs.speed = {1024, 512};
  EXPECT_DOUBLE_EQ(PredictedImbalance(placements, steps, costs), 200.0 / 150);
}

TEST(PredictLayer, DealsRowsEvenlyToSourceRanks) {
  Random random(1);
  const Layer layer = RandomLayer({3, 5, 3}, random);
  PredictionScratch scratch;
  const std::vector<int32_t> rows = {7, 1, 2, 0, 300};
  PredictLayer(rows, layer.replicas, {}, scratch);
  for (size_t expert = 0; expert < rows.size(); ++expert) {
    int32_t sum = 0;
    for (size_t rank = 0; rank < 3; ++rank) {
      const int32_t part = scratch.rows[rank * rows.size() + expert];
      EXPECT_GE(part, rows[expert] / 3);
      EXPECT_LE(part, (rows[expert] + 2) / 3);
      sum += part;
    }
    EXPECT_EQ(sum, rows[expert]);
  }
}

TEST(CountSlotMoves, CountsExpertsThatAreNewOnARank) {
  const LayerPlacement from{2, 2, {0, 1, 2, -1}};
  EXPECT_EQ(CountSlotMoves(from, from), 0);
  EXPECT_EQ(CountSlotMoves(from, LayerPlacement{2, 2, {1, 0, -1, 2}}), 0);  // only another order
  EXPECT_EQ(CountSlotMoves(from, LayerPlacement{2, 2, {0, 1, 2, 0}}), 1);
  EXPECT_EQ(CountSlotMoves(from, LayerPlacement{2, 2, {2, 1, 0, -1}}), 2);
  EXPECT_EQ(CountSlotMoves(from, LayerPlacement{2, 1, {0, 2}}), 0);  // one left
  EXPECT_EQ(CountSlotMoves(from, LayerPlacement{2, 3, {2, 1, 0, -1, 2, 1}}), 2);
}

TEST(CountSlotMoves, AddsLayersUp) {
  const std::vector<LayerPlacement> from(2, LayerPlacement{2, 1, {0, 1}});
  const std::vector<LayerPlacement> to = {{2, 1, {1, 0}}, {2, 1, {0, 1}}};
  EXPECT_EQ(CountSlotMoves(from, to), 2);
}

}  // namespace
}  // namespace ballast
