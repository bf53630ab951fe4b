#include "engine/moe/cost_model.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr double kTile = 20e-6;
constexpr double kFloor = 50e-6;

// A machine whose times are known, up to noise.
class Machine {
 public:
  Machine(CostModel& model, int ranks)
      : model_(model), slowness_(static_cast<size_t>(ranks), 1), random_(1) {}

  double& slowness(int rank) { return slowness_[static_cast<size_t>(rank)]; }

  // One step of 12 layers, whose experts have one to a few tiles; every rank is observed.
  void Step(double spike = 1, int spiked = -1) {
    for (int rank = 0; rank < static_cast<int>(slowness_.size()); ++rank) {
      std::vector<ExpertTiming> layers;
      for (int layer = 0; layer < 12; ++layer) {
        ExpertTiming t;
        t.live_experts = Uniform(4, 16);
        t.tiles = t.live_experts * Uniform(1, 6);
        const double noise = 1 + 0.05 * (Uniform(0, 200) - 100) / 100.0;
        t.seconds = (kFloor * t.live_experts + kTile * static_cast<double>(t.tiles)) * noise *
                    slowness(rank) * (rank == spiked ? spike : 1);
        layers.push_back(t);
      }
      model_.Observe(rank, layers);
    }
  }

 private:
  int Uniform(int low, int high) {
    return low + static_cast<int>(random_() % static_cast<uint32_t>(high - low + 1));
  }

  CostModel& model_;
  std::vector<double> slowness_;
  std::mt19937 random_;
};

TEST(CostModel, FindsFloorTileAndSpeed) {
  CostModel model({.ranks = 4, .tile_rows = 16});
  Machine machine(model, 4);
  machine.slowness(2) = 1.5;
  for (int step = 0; step < 40; ++step) {
    machine.Step();
  }
  CostParameters costs;
  ASSERT_TRUE(model.Publish(costs));
  EXPECT_EQ(costs.version, 1);
  EXPECT_EQ(costs.tile_rows, 16);
  EXPECT_NEAR(costs.tile_cost, kTile * 1e9, kTile * 1e9 * 0.1);
  EXPECT_NEAR(costs.floor_cost, kFloor * 1e9, kFloor * 1e9 * 0.1);
  EXPECT_NEAR(costs.speed[2], 1024 / 1.5, 30);
  for (const int rank : {0, 1, 3}) {
    EXPECT_NEAR(costs.speed[static_cast<size_t>(rank)], 1024, 35);
  }
  EXPECT_TRUE(Validate(costs, 4).ok());
  EXPECT_NEAR(model.Predict(2, 10, 30), 1.5 * (10 * kFloor + 30 * kTile), 0.1e-3);
}

TEST(CostModel, SeesAThrottledRankWithinTwentyStepsAndItsRecoveryAsFast) {
  for (const int ranks : {1, 2, 8}) {
    CostModel model({.ranks = ranks, .tile_rows = 1});
    Machine machine(model, ranks);
    for (int step = 0; step < 30; ++step) {
      machine.Step();
    }
    CostParameters costs;
    model.Publish(costs);
    machine.slowness(0) = 2;
    for (int step = 0; step < 20; ++step) {
      machine.Step();
    }
    EXPECT_TRUE(model.Publish(costs));
    if (ranks == 1) {  // alone it is the fastest: the costs rise
      EXPECT_NEAR(costs.tile_cost, 2 * kTile * 1e9, kTile * 1e9 * 0.2);
    } else {
      EXPECT_NEAR(costs.speed[0], 512, 30);
      EXPECT_NEAR(costs.speed[1], 1024, 40);
    }
    machine.slowness(0) = 1;
    for (int step = 0; step < 20; ++step) {
      machine.Step();
    }
    EXPECT_TRUE(model.Publish(costs));
    EXPECT_NEAR(costs.speed[0], 1024, 40);
    EXPECT_NEAR(costs.tile_cost, kTile * 1e9, kTile * 1e9 * 0.1);
  }
}

TEST(CostModel, SeesTheRecoveryOfARankThatGotNoRowsForBeingSlow) {
  constexpr int kGone = 1;
  CostModel model({.ranks = 2, .tile_rows = 16});
  // Rank 1 has rows only while it counts as fast enough for one.
  const auto run = [&](int steps, double slowness) {
    int measured = 0;
    for (int step = 0; step < steps; ++step) {
      const bool has_rows = model.state().speed[kGone] > 0.25;
      measured += has_rows ? 1 : 0;
      const std::vector<ExpertTiming> fast(4, {4, 8, 1e-4});
      const std::vector<ExpertTiming> slow(4, {4, 8, 1e-4 * slowness});
      model.Observe(0, fast);
      model.Observe(kGone, has_rows ? slow : std::vector<ExpertTiming>());
    }
    return measured;
  };
  run(40, 1);
  run(20, 20);
  EXPECT_LT(model.state().speed[kGone], 0.25);
  run(25, 1);
  EXPECT_NEAR(model.state().speed[kGone], 1, 0.01);
  // While it stays slow it is tried ever more rarely.
  run(20, 20);
  EXPECT_LE(run(1000, 20), 12);
  run(150, 1);
  EXPECT_NEAR(model.state().speed[kGone], 1, 0.01);
}

TEST(CostModel, TenfoldSpikesMoveNothing) {
  CostModel model({.ranks = 2, .tile_rows = 1});
  Machine machine(model, 2);
  for (int step = 0; step < 40; ++step) {
    machine.Step();
  }
  CostParameters costs;
  model.Publish(costs);
  const int64_t version = costs.version;
  for (int step = 0; step < 60; ++step) {
    machine.Step(10, step % 4 == 0 ? 1 : -1);
    model.Publish(costs);
    EXPECT_NEAR(costs.speed[1], 1024, 100);
    EXPECT_NEAR(costs.tile_cost, kTile * 1e9, kTile * 1e9 * 0.15);
  }
  EXPECT_LE(costs.version, version + 3);
}

TEST(CostModel, PublishesNothingNewForSteadyTimes) {
  CostModel model({.ranks = 2, .tile_rows = 1});
  CostParameters costs;
  EXPECT_FALSE(model.Publish(costs));
  const ExpertTiming layers[] = {{4, 8, 4 * kFloor + 8 * kTile}, {4, 20, 4 * kFloor + 20 * kTile}};
  for (int step = 0; step < 50; ++step) {
    model.Observe(0, layers);
    model.Observe(1, layers);
  }
  EXPECT_TRUE(model.Publish(costs));
  EXPECT_FALSE(model.Publish(costs));
  EXPECT_EQ(costs.version, 1);
  EXPECT_NEAR(costs.tile_cost, 20000, 1);
  EXPECT_NEAR(costs.floor_cost, 50000, 2);
  EXPECT_THAT(costs.speed, ElementsAre(1024, 1024));
}

TEST(CostModel, LearnsTheFloorOfAModelWithOneLayerFromStepsThatDiffer) {
  CostModel model({.ranks = 1, .tile_rows = 1});
  for (int step = 0; step < 30; ++step) {
    const int64_t tiles = step % 2 == 0 ? 8 : 200;
    const ExpertTiming layer[] = {{8, tiles, 8 * kFloor + static_cast<double>(tiles) * kTile}};
    model.Observe(0, layer);
  }
  EXPECT_NEAR(model.state().floor_seconds, kFloor, kFloor * 1e-6);
  EXPECT_NEAR(model.state().tile_seconds, kTile, kTile * 1e-6);
}

TEST(CostModel, IgnoresWhatIsNoTiming) {
  CostModel model({.ranks = 1, .tile_rows = 1});
  const ExpertTiming layers[] = {{0, 0, 1},
                                 {3, 5, 0},
                                 {3, 5, -1},
                                 {3, 5, std::numeric_limits<double>::quiet_NaN()},
                                 {3, 5, std::numeric_limits<double>::infinity()}};
  model.Observe(0, layers);
  CostParameters costs;
  EXPECT_FALSE(model.Publish(costs));
}

TEST(CostModel, StartsFromWhatAnEarlierRunLearned) {
  CostModel model({.ranks = 2, .tile_rows = 1});
  ASSERT_TRUE(model.Restore({kTile, kFloor, {1, 0.5}}).ok());
  CostParameters costs;
  ASSERT_TRUE(model.Publish(costs));
  EXPECT_EQ(costs.tile_cost, 20000);
  EXPECT_EQ(costs.floor_cost, 50000);
  EXPECT_THAT(costs.speed, ElementsAre(1024, 512));
  Machine machine(model, 2);
  for (int step = 0; step < 20; ++step) {
    machine.Step();
  }
  ASSERT_TRUE(model.Publish(costs));
  EXPECT_NEAR(costs.speed[1], 1024, 40);
}

TEST(CostModel, RefusesAStateThatDoesNotFit) {
  CostModel model({.ranks = 2, .tile_rows = 1});
  EXPECT_THAT(std::string(model.Restore({kTile, kFloor, {1}}).message()),
              HasSubstr("speed has 1 ranks, expected 2"));
  EXPECT_FALSE(model.Restore({0, kFloor, {1, 1}}).ok());
  EXPECT_FALSE(model.Restore({kTile, -1, {1, 1}}).ok());
  EXPECT_FALSE(model.Restore({kTile, kFloor, {1, std::nan("")}}).ok());
  CostParameters costs;
  EXPECT_FALSE(model.Publish(costs));
}

TEST(TimingOf, CountsLiveExpertsAndTiles) {
  const std::vector<int32_t> rows = {0, 1, 16, 17};
  const ExpertTiming t = TimingOf(rows, 16, 0.5);
  EXPECT_EQ(t.live_experts, 3);
  EXPECT_EQ(t.tiles, 4);
  EXPECT_EQ(t.seconds, 0.5);
}

}  // namespace
}  // namespace ballast
