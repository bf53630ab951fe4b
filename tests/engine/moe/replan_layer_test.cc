#include "engine/moe/replan_layer.h"

#include <algorithm>
#include <functional>

#include "engine/moe/imbalance.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/balance_cases.h"

namespace ballast {
namespace {

using testing::ElementsAre;

std::vector<LayerShape> Shapes() {
  return {{1, 1, 1}, {1, 6, 8}, {2, 3, 2},  {2, 4, 2},  {3, 5, 3},  {4, 8, 3},   {4, 7, 2},
          {5, 6, 6}, {8, 4, 2}, {7, 30, 5}, {8, 64, 8}, {8, 64, 9}, {8, 64, 16}, {16, 40, 5}};
}

std::vector<int64_t> RandomLoad(int experts, Random& random) {
  std::vector<int64_t> load;
  for (int expert = 0; expert < experts; ++expert) {
    const int hot = random(0, 9) == 0 ? 20 : 1;
    load.push_back(int64_t{1000} * random(0, 100) * hot);
  }
  return load;
}

LayerReplan Replan(const LayerPlacement& current, const std::vector<int64_t>& load,
                   const LayerReplanOptions& options) {
  ReplanScratch scratch;
  return ReplanLayer(current, load, options, scratch);
}

double HighestOf(const LayerPlacement& placement, const std::vector<int64_t>& load,
                 std::span<const int32_t> speed) {
  Leveling leveling;
  leveling.Start(placement, load.size(), std::vector<double>(load.begin(), load.end()), speed);
  return leveling.Highest();
}

// Load per rank of the levelled split.
std::vector<double> RankLoads(const LayerPlacement& placement, const std::vector<int64_t>& load,
                              std::span<const int32_t> speed) {
  Leveling leveling;
  leveling.Start(placement, load.size(), std::vector<double>(load.begin(), load.end()), speed);
  std::vector<double> loads;
  for (int rank = 0; rank < placement.ranks; ++rank) {
    loads.push_back(leveling.LevelsOf(0)[rank] * leveling.SpeedOf(rank));
  }
  return loads;
}

void ExpectExpertsThatStayKeepTheirSlots(const LayerPlacement& from, const LayerPlacement& to) {
  for (int rank = 0; rank < from.ranks; ++rank) {
    const std::vector<int> was = ExpertsOfRank(from, rank);
    const std::vector<int> is = ExpertsOfRank(to, rank);
    for (size_t i = 0; i < was.size(); ++i) {
      if (was[i] >= 0 && std::find(is.begin(), is.end(), was[i]) != is.end()) {
        EXPECT_EQ(is[i], was[i]);
      }
    }
  }
}

TEST(ReplanLayer, IsLegalBoundedStableAndNeverWorseOnRandomLayers) {
  Random random(1);
  int changed = 0;
  for (const LayerShape& shape : Shapes()) {
    for (int i = 0; i < 24; ++i) {
      const LayerPlacement current = RandomPlacement(shape, random);
      const std::vector<int64_t> load = RandomLoad(shape.experts, random);
      const std::vector<int32_t> speed =
          i % 3 == 0 ? RandomSpeeds(shape.ranks, random) : std::vector<int32_t>();
      std::vector<int32_t> node;
      for (int rank = 0; rank < shape.ranks && i % 4 == 0; ++rank) {
        node.push_back(rank / 2);
      }
      LayerReplanOptions options;
      options.max_moves = i % 8;
      options.variation = i % 2 == 0 ? 0 : 0.3;
      options.speed = speed;
      options.node = node;
      const LayerReplan plan = Replan(current, load, options);
      ASSERT_TRUE(ValidatePlacement(plan.placement, 0, shape.experts, shape.ranks).ok());
      EXPECT_EQ(plan.placement.slots_per_rank, current.slots_per_rank);
      EXPECT_EQ(plan.moves, CountSlotMoves(current, plan.placement));
      EXPECT_LE(plan.moves, options.max_moves);
      EXPECT_LE(plan.after, plan.before);
      ExpectExpertsThatStayKeepTheirSlots(current, plan.placement);
      EXPECT_EQ(plan.placement.slot_expert, Replan(current, load, options).placement.slot_expert);
      if (options.variation == 0) {
        EXPECT_NEAR(plan.after, std::max(1.0, HighestOf(plan.placement, load, speed)), 2e-3)
            << shape.ranks << " ranks";
        EXPECT_LE(HighestOf(plan.placement, load, speed),
                  HighestOf(current, load, speed) + kLevelStep);
      }
      changed += plan.moves > 0 ? 1 : 0;
    }
  }
  EXPECT_GT(changed, 100);
}

// The lowest that any legal placement within `moves` rewritten slots reaches.
double BestOfAll(const LayerPlacement& current, const std::vector<int64_t>& load, int moves) {
  const int experts = static_cast<int>(load.size());
  double best = HighestOf(current, load, {});
  LayerPlacement trial = current;
  const std::function<void(size_t, int)> rewrite = [&](size_t slot, int left) {
    if (slot == trial.slot_expert.size()) {
      if (ValidatePlacement(trial, 0, experts, trial.ranks).ok() &&
          CountSlotMoves(current, trial) <= moves) {
        best = std::min(best, HighestOf(trial, load, {}));
      }
      return;
    }
    rewrite(slot + 1, left);
    for (int expert = 0; expert < experts && left > 0; ++expert) {
      if (expert != current.slot_expert[slot]) {
        trial.slot_expert[slot] = expert;
        rewrite(slot + 1, left - 1);
      }
    }
    trial.slot_expert[slot] = current.slot_expert[slot];
  };
  rewrite(0, moves);
  return best;
}

TEST(ReplanLayer, ComesNearTheBestOfAllPlacementsWithinTheMoves) {
  Random random(3);
  for (const LayerShape& shape :
       std::vector<LayerShape>{{2, 3, 2}, {2, 5, 3}, {3, 4, 2}, {3, 6, 3}, {4, 6, 2}}) {
    for (const int moves : {1, 2, 3}) {
      double ours = 0;
      double best = 0;
      for (int i = 0; i < 8; ++i) {
        const LayerPlacement current = RandomPlacement(shape, random);
        const std::vector<int64_t> load = RandomLoad(shape.experts, random);
        if (std::count(load.begin(), load.end(), 0) == static_cast<int>(load.size())) {
          continue;
        }
        LayerReplanOptions options;
        options.max_moves = moves;
        options.least_gain = 0;
        ours += HighestOf(Replan(current, load, options).placement, load, {});
        best += BestOfAll(current, load, moves);
      }
      EXPECT_LE(best, ours + 8 * kLevelStep);
      EXPECT_LE(ours, 1.07 * best)
          << shape.ranks << " ranks, " << shape.experts << " experts, " << moves << " moves";
    }
  }
}

TEST(ReplanLayer, OneCopyOfTheHotExpertIsOneMove) {
  // Rank 0 has the hot expert and rank 1 a slot that nobody needs.
  const LayerPlacement current{2, 2, {0, 1, 2, -1}};
  const std::vector<int64_t> load = {80, 10, 10};
  const LayerReplan plan = Replan(current, load, {});
  EXPECT_THAT(plan.placement.slot_expert, ElementsAre(0, 1, 2, 0));
  EXPECT_EQ(plan.moves, 1);
  EXPECT_NEAR(plan.before, 1.8, 1e-9);
  EXPECT_NEAR(plan.after, 1, kLevelStep);
}

TEST(ReplanLayer, WithoutSpareSlotsExpertsTradePlaces) {
  const LayerPlacement current{2, 2, {0, 1, 2, 3}};
  const std::vector<int64_t> load = {40, 35, 15, 10};
  const LayerReplan plan = Replan(current, load, {});
  EXPECT_EQ(plan.moves, 2);
  EXPECT_NEAR(plan.after, 1.0, kLevelStep);  // 40 + 10 and 35 + 15
}

TEST(ReplanLayer, AReplicaThatIsNotNeededMakesRoom) {
  // Expert 3 stands on both ranks and has no load.
  const LayerPlacement current{2, 3, {0, 1, 3, 2, 3, 4}};
  const std::vector<int64_t> load = {70, 10, 10, 0, 10};
  const LayerReplan plan = Replan(current, load, {});
  EXPECT_EQ(plan.moves, 1);
  EXPECT_EQ(plan.placement.slot_expert[4], 0);
}

TEST(ReplanLayer, AMoveThatGainsTooLittleIsLeftOut) {
  const LayerPlacement current{2, 2, {0, 1, 2, -1}};
  const std::vector<int64_t> load = {52, 0, 48};
  LayerReplanOptions options;
  options.least_gain = 0.05;
  EXPECT_EQ(Replan(current, load, options).moves, 0);
  options.least_gain = 0.03;
  EXPECT_EQ(Replan(current, load, options).moves, 1);
}

TEST(ReplanLayer, WithoutLoadNothingMoves) {
  Random random(5);
  const LayerPlacement current = RandomPlacement({4, 8, 3}, random);
  const LayerReplan plan = Replan(current, std::vector<int64_t>(8, 0), {});
  EXPECT_EQ(plan.placement.slot_expert, current.slot_expert);
  EXPECT_EQ(plan.moves, 0);
  EXPECT_EQ(plan.before, 1);
}

TEST(ReplanLayer, ARankAtHalfSpeedGetsHalfTheLoad) {
  Random random(7);
  std::vector<int64_t> load;
  for (int expert = 0; expert < 64; ++expert) {
    load.push_back(random(500, 1500));
  }
  const std::vector<int32_t> speed = {1024, 1024, 512, 1024, 1024, 1024, 1024, 1024};
  const LayerPlacement current = EvenPlacement(64, 8, 9);
  LayerReplanOptions options;
  options.max_moves = 20;
  options.least_gain = 0;
  options.speed = speed;
  const LayerReplan plan = Replan(current, load, options);
  EXPECT_GT(plan.before, 1.2);
  EXPECT_LT(plan.after, 1.01);
  const std::vector<double> loads = RankLoads(plan.placement, load, speed);
  EXPECT_NEAR(loads[2] / loads[0], 0.5, 0.02);
}

TEST(ReplanLayer, PlanningForVariedStepsKeepsMoreSlack) {
  // The mean step is even. When the experts of one rank are above their mean, they have no way out.
  const LayerPlacement current{2, 3, {0, 1, -1, 2, 3, -1}};
  const std::vector<int64_t> load = {25, 25, 25, 25};
  LayerReplanOptions options;
  EXPECT_EQ(Replan(current, load, options).moves, 0);
  options.variation = 0.3;
  const LayerReplan plan = Replan(current, load, options);
  EXPECT_GT(plan.moves, 0);
  EXPECT_LT(plan.after, plan.before);
}

TEST(ReplanLayer, OfEqualCopiesTheOneOnAnotherMachineGoesFirst) {
  // Every rank but the first has the same load and an empty slot. Ranks 0 and 1 share a machine.
  const LayerPlacement current{4, 2, {0, 1, 2, -1, 3, -1, 4, -1}};
  const std::vector<int64_t> load = {60, 40, 40, 40, 40};
  LayerReplanOptions options;
  options.max_moves = 1;
  const auto rank_of_copy = [&] {
    const std::vector<int32_t> slots = Replan(current, load, options).placement.slot_expert;
    const auto at = std::find_if(slots.begin() + 2, slots.end(),
                                 [](int32_t expert) { return expert == 0 || expert == 1; });
    return (at - slots.begin()) / 2;
  };
  EXPECT_EQ(rank_of_copy(), 1);
  const std::vector<int32_t> node = {0, 0, 1, 1};
  options.node = node;
  EXPECT_EQ(rank_of_copy(), 2);
  const std::vector<int32_t> other = {0, 1, 0, 1};
  options.node = other;
  EXPECT_EQ(rank_of_copy(), 1);
}

}  // namespace
}  // namespace ballast
