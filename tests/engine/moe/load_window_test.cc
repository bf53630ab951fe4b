#include "engine/moe/load_window.h"

#include <algorithm>
#include <numeric>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/balance_cases.h"

namespace ballast {
namespace {

using testing::DoubleNear;
using testing::Each;
using testing::ElementsAre;

LoadWindowOptions OneLayer(int experts) {
  LoadWindowOptions options;
  options.experts = experts;
  return options;
}

void Step(LoadWindow& window, const std::vector<int64_t>& rows, bool decode = false) {
  window.Observe(0, rows);
  window.EndStep(decode ? 0 : 10, decode ? 10 : 0);
}

// Of each expert, as shares of the layer.
std::vector<double> Shares(const PlanningLoad& planning, int layer = 0) {
  std::vector<double> shares;
  for (const int64_t load : planning.OfLayer(layer)) {
    shares.push_back(static_cast<double>(load) / static_cast<double>(kPlanningUnits));
  }
  return shares;
}

TEST(LoadWindow, IsEmptyBeforeTheFirstStep) {
  LoadWindow window(OneLayer(3));
  EXPECT_THAT(window.Planning({}).load, Each(0));
  EXPECT_TRUE(window.HeldOut().empty());
  EXPECT_EQ(window.steps(), 0);
}

TEST(LoadWindow, IdleStepsCountForNothing) {
  LoadWindow window(OneLayer(2));
  for (int i = 0; i < 100; ++i) {
    Step(window, {0, 0});
  }
  EXPECT_EQ(window.steps(), 0);
  EXPECT_TRUE(window.HeldOut().empty());
  EXPECT_THAT(window.Planning({}).load, Each(0));
}

TEST(LoadWindow, PlansWithTheMeanOfItsSteps) {
  LoadWindow window(OneLayer(2));
  Step(window, {10, 0});
  Step(window, {10, 20});
  const std::vector<double> shares = Shares(window.Planning({}));
  EXPECT_NEAR(shares[0], 0.5, 0.01);
  EXPECT_NEAR(shares[1], 0.5, 0.01);
}

TEST(LoadWindow, SumsTheRanksOfAStepAndKeepsLayersApart) {
  LoadWindowOptions options = OneLayer(2);
  options.layers = 2;
  LoadWindow window(options);
  window.Observe(0, std::vector<int64_t>{1, 0});
  window.Observe(0, std::vector<int64_t>{0, 3});
  window.Observe(1, std::vector<int64_t>{5, 0});
  window.EndStep(4, 0);
  const PlanningLoad planning = window.Planning({});
  EXPECT_THAT(Shares(planning, 0), ElementsAre(DoubleNear(0.25, 1e-6), DoubleNear(0.75, 1e-6)));
  EXPECT_THAT(Shares(planning, 1), ElementsAre(DoubleNear(1, 1e-6), 0));
}

TEST(LoadWindow, ForgetsOldSteps) {
  LoadWindowOptions options = OneLayer(2);
  options.decay_steps = 20;
  LoadWindow window(options);
  for (int i = 0; i < 200; ++i) {
    Step(window, {100, 0});
  }
  for (int i = 0; i < 100; ++i) {
    Step(window, {0, 100});
  }
  EXPECT_GT(Shares(window.Planning({}))[1], 0.95);
}

TEST(LoadWindow, DecodeDoesNotWashOutPrefill) {
  LoadWindowOptions options = OneLayer(2);
  options.decay_steps = 20;
  LoadWindow window(options);
  for (int i = 0; i < 40; ++i) {
    Step(window, {1000, 0});
  }
  for (int i = 0; i < 60; ++i) {
    Step(window, {0, 10}, true);
  }
  // Prefill is still 5% of the recent steps, and a step of it is a hundred times larger.
  EXPECT_GT(Shares(window.Planning({}))[0], 0.7);
  // It is held out in proportion, too.
  double prefill = 0;
  double all = 0;
  for (const StepLoad& step : window.HeldOut()) {
    all += step.weight;
    prefill += step.rows[0] > 0 ? step.weight : 0;
  }
  EXPECT_NEAR(all, 1, 1e-9);
  EXPECT_GT(prefill, 0.01);
  EXPECT_LT(prefill, 0.1);
}

TEST(LoadWindow, AMixedStepIsOfThePhaseWithMostRows) {
  LoadWindowOptions options = OneLayer(2);
  options.held_out_every = 2;
  LoadWindow window(options);
  for (int i = 0; i < 2; ++i) {
    window.Observe(0, std::vector<int64_t>{9, 0});
    window.EndStep(5, 4);  // prefill; the second is held out
  }
  for (int i = 0; i < 2; ++i) {
    window.Observe(0, std::vector<int64_t>{0, 9});
    window.EndStep(4, 5);  // decode; again the second
  }
  ASSERT_EQ(window.HeldOut().size(), 2u);
  EXPECT_THAT(window.HeldOut()[0].rows, ElementsAre(9, 0));
  EXPECT_THAT(window.HeldOut()[1].rows, ElementsAre(0, 9));
}

TEST(LoadWindow, HeldOutStepsAreNeverPlannedWith) {
  LoadWindowOptions options = OneLayer(2);
  options.held_out_every = 4;
  options.held_out_steps = 3;
  LoadWindow window(options);
  for (int i = 1; i <= 40; ++i) {
    Step(window, i % 4 == 0 ? std::vector<int64_t>{0, i} : std::vector<int64_t>{50, 0});
  }
  EXPECT_EQ(Shares(window.Planning({}))[1], 0);
  std::vector<int32_t> held;
  for (const StepLoad& step : window.HeldOut()) {
    EXPECT_NEAR(step.weight, 1.0 / 3, 1e-9);
    held.push_back(step.rows[1]);
  }
  EXPECT_THAT(held, ElementsAre(32, 36, 40));  // the latest, oldest first
  EXPECT_EQ(window.HeldOut(36).size(), 1u);
  EXPECT_TRUE(window.HeldOut(40).empty());
}

TEST(LoadWindow, PlansWithCostsAndNotWithRows) {
  LoadWindow window(OneLayer(2));
  for (int i = 0; i < 7; ++i) {
    Step(window, {1, 31});
  }
  CostParameters costs;
  costs.tile_cost = 10;
  costs.floor_cost = 100;
  const std::vector<double> shares = Shares(window.Planning(costs));
  EXPECT_NEAR(shares[0] / shares[1], 110.0 / 410, 1e-3);
  // A tile that is not full costs as much as a full one.
  costs.floor_cost = 0;
  costs.tile_rows = 32;
  const std::vector<double> tiles = Shares(window.Planning(costs));
  EXPECT_GT(tiles[0], 0.25);
}

TEST(LoadWindow, MeasuresHowStepsVary) {
  Random random(1);
  LoadWindow steady(OneLayer(8));
  LoadWindow varied(OneLayer(8));
  for (int i = 0; i < 300; ++i) {
    std::vector<int64_t> rows;
    for (int expert = 0; expert < 8; ++expert) {
      rows.push_back(random(0, 1) == 0 ? 70 : 130);
    }
    Step(steady, std::vector<int64_t>(8, 100));
    Step(varied, rows);
  }
  EXPECT_NEAR(steady.Planning({}).variation[0], 0, 1e-3);
  EXPECT_NEAR(varied.Planning({}).variation[0], 0.3, 0.05);
}

}  // namespace
}  // namespace ballast
