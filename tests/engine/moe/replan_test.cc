#include "engine/moe/replan.h"

#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/balance_cases.h"

namespace ballast {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

PlanningLoad Planned(int experts, std::vector<int64_t> load) {
  const size_t layers = load.size() / static_cast<size_t>(experts);
  return {experts, std::move(load), std::vector<double>(layers, 0)};
}

std::vector<StepLoad> Steps(int experts, const std::vector<int32_t>& rows, size_t count = 4) {
  return std::vector<StepLoad>(count, StepLoad{experts, rows, 1});
}

// Two ranks, three experts; the empty slot wants a copy of the hot one.
LayerPlacement Lopsided() { return {2, 2, {0, 1, 2, -1}}; }

TEST(DecideReplan, ChangesWhatGainsOnHeldOutLoad) {
  const std::vector<LayerPlacement> current = {Lopsided()};
  const ReplanDecision decision =
      DecideReplan(current, Planned(3, {80, 10, 10}), Steps(3, {80, 10, 10}), {}, {});
  ASSERT_EQ(decision.changes.size(), 1u);
  EXPECT_EQ(decision.changes[0].layer, 0);
  EXPECT_THAT(decision.changes[0].placement.slot_expert, ElementsAre(0, 1, 2, 0));
  EXPECT_EQ(decision.moves, 1);
  EXPECT_DOUBLE_EQ(decision.before, 90);
  EXPECT_DOUBLE_EQ(decision.after, 50);
  EXPECT_DOUBLE_EQ(decision.imbalance_before, 1.8);
  EXPECT_DOUBLE_EQ(decision.imbalance_after, 1);
}

TEST(DecideReplan, StaysPutWithoutLoadOrWithoutAnythingToJudgeBy) {
  const std::vector<LayerPlacement> current = {Lopsided()};
  EXPECT_THAT(DecideReplan(current, Planned(3, {0, 0, 0}), Steps(3, {80, 10, 10}), {}, {}).changes,
              IsEmpty());
  EXPECT_THAT(DecideReplan(current, Planned(3, {80, 10, 10}), {}, {}, {}).changes, IsEmpty());
  EXPECT_THAT(DecideReplan({}, Planned(3, {}), {}, {}, {}).changes, IsEmpty());
}

TEST(DecideReplan, StaysPutWhenHeldOutLoadSaysOtherwise) {
  // Planned for a hot expert 0; what came since is hot on expert 2, whose rank the copy burdens
  // under plain expert parallelism.
  const std::vector<LayerPlacement> current = {{2, 2, {0, 1, 2, 1}}};
  const PlanningLoad load = Planned(3, {80, 20, 0});
  EXPECT_EQ(DecideReplan(current, load, Steps(3, {80, 20, 0}), {}, {}).changes.size(), 1u);
  const ReplanDecision decision = DecideReplan(current, load, Steps(3, {20, 60, 20}), {}, {});
  EXPECT_THAT(decision.changes, IsEmpty());
  EXPECT_EQ(decision.before, decision.after);
}

TEST(DecideReplan, AGainThatMayBeChanceIsNone) {
  const std::vector<LayerPlacement> current = {{2, 2, {0, 1, 2, 1}}};
  const PlanningLoad load = Planned(3, {80, 20, 0});
  // One step in three gains three times what each of the others loses.
  std::vector<StepLoad> held_out = Steps(3, {30, 60, 10}, 2);
  held_out.push_back({3, {80, 20, 0}, 1});
  EXPECT_THAT(DecideReplan(current, load, held_out, {}, {}).changes, IsEmpty());
}

TEST(DecideReplan, AMoveMustPayForItselfWithinTheHorizon) {
  const std::vector<LayerPlacement> current = {Lopsided()};
  ReplanOptions options;
  options.horizon_steps = 100;
  options.move_cost = 100 * 40 - 1;  // a step gains 40
  const PlanningLoad load = Planned(3, {80, 10, 10});
  const std::vector<StepLoad> held_out = Steps(3, {80, 10, 10});
  EXPECT_EQ(DecideReplan(current, load, held_out, {}, options).moves, 1);
  options.move_cost = 100 * 40 + 1;
  EXPECT_EQ(DecideReplan(current, load, held_out, {}, options).moves, 0);
}

TEST(DecideReplan, UnderTheCapTheLayersThatGainMostPerMoveGoFirst) {
  const std::vector<LayerPlacement> current(3, Lopsided());
  const PlanningLoad load = Planned(3, {60, 20, 20, 80, 10, 10, 70, 20, 10});
  const std::vector<StepLoad> held_out = Steps(3, {60, 20, 20, 80, 10, 10, 70, 20, 10});
  ReplanOptions options;
  options.max_moves = 2;
  const ReplanDecision decision = DecideReplan(current, load, held_out, {}, options);
  ASSERT_EQ(decision.changes.size(), 2u);
  EXPECT_EQ(decision.changes[0].layer, 1);
  EXPECT_EQ(decision.changes[1].layer, 2);
  EXPECT_EQ(decision.moves, 2);
  EXPECT_DOUBLE_EQ(decision.before, 80 + 90 + 90);
  EXPECT_DOUBLE_EQ(decision.after, 80 + 50 + 50);
  options.max_moves = 0;
  EXPECT_THAT(DecideReplan(current, load, held_out, {}, options).changes, IsEmpty());
}

TEST(DecideReplan, IsNeverWorseThanStayingPutOnRandomLayers) {
  Random random(3);
  int changed = 0;
  for (int i = 0; i < 60; ++i) {
    const LayerShape shape{random(1, 6), random(2, 20), 0};
    const int least = (shape.experts + shape.ranks - 1) / shape.ranks;
    const int slots_per_rank = least + random(0, 2);
    CostParameters costs;
    costs.mode = i % 3 == 0 ? BalanceMode::kSpill : BalanceMode::kAssign;
    costs.tile_rows = i % 2 == 0 ? 1 : 4;
    costs.tile_cost = 100;
    costs.floor_cost = i % 4 == 0 ? 0 : 300;
    costs.import_cost = 500;
    costs.max_imports = 1;
    if (i % 5 == 0) {
      costs.speed = RandomSpeeds(shape.ranks, random);
    }
    std::vector<LayerPlacement> current;
    std::vector<int64_t> load;
    std::vector<int32_t> rows;
    for (int layer = 0; layer < 3; ++layer) {
      current.push_back(RandomPlacement({shape.ranks, shape.experts, slots_per_rank}, random));
      for (int expert = 0; expert < shape.experts; ++expert) {
        rows.push_back(random(0, 50) * random(0, 4));
        load.push_back(rows.back() * random(1, 3));
      }
    }
    const std::vector<StepLoad> held_out = Steps(shape.experts, rows, 3);
    ReplanOptions options;
    options.max_moves = random(0, 10);
    const ReplanDecision decision =
        DecideReplan(current, Planned(shape.experts, load), held_out, costs, options);
    std::vector<LayerPlacement> planned = current;
    for (const LayerReplanned& change : decision.changes) {
      ASSERT_TRUE(
          ValidatePlacement(change.placement, change.layer, shape.experts, shape.ranks).ok());
      EXPECT_LT(change.after, change.before);
      planned[static_cast<size_t>(change.layer)] = change.placement;
      ++changed;
    }
    EXPECT_LE(decision.after, decision.before);
    EXPECT_LE(decision.moves, options.max_moves);
    EXPECT_EQ(decision.moves, CountSlotMoves(current, planned));
  }
  EXPECT_GT(changed, 10);
}

TEST(LayersToRollBack, NamesTheLayersThatServeWorseSince) {
  const std::vector<LayerPlacement> before = {
      {2, 2, {0, 1, 2, 1}}, {2, 2, {0, 1, 2, 1}}, Lopsided()};
  const std::vector<LayerPlacement> after = {
      {2, 2, {0, 1, 2, 0}}, {2, 2, {0, 1, 2, 0}}, Lopsided()};
  // Layer 0 wants the copy of expert 1 back, layer 1 the one of expert 0; layer 2 did not change.
  const std::vector<StepLoad> since = Steps(3, {30, 70, 0, 70, 30, 0, 90, 5, 5});
  EXPECT_THAT(LayersToRollBack(before, after, since, {}, {}), ElementsAre(0));
}

TEST(LayersToRollBack, NeedsMoreThanOneStepMoreThanChanceAndEnoughToPay) {
  const std::vector<LayerPlacement> before = {{2, 2, {0, 1, 2, 1}}};
  const std::vector<LayerPlacement> after = {{2, 2, {0, 1, 2, 0}}};
  const std::vector<int32_t> worse = {30, 70, 0};
  EXPECT_THAT(LayersToRollBack(before, after, Steps(3, worse, 1), {}, {}), IsEmpty());
  EXPECT_THAT(LayersToRollBack(before, after, Steps(3, worse, 2), {}, {}), ElementsAre(0));
  // Half of the steps want this, half that.
  std::vector<StepLoad> mixed = Steps(3, worse, 4);
  mixed.insert(mixed.end(), 4, StepLoad{3, {69, 31, 0}, 1});
  EXPECT_THAT(LayersToRollBack(before, after, mixed, {}, {}), IsEmpty());
  ReplanOptions options;
  options.move_cost = 1e6;
  options.horizon_steps = 10;
  EXPECT_THAT(LayersToRollBack(before, after, Steps(3, worse), {}, options), IsEmpty());
}

}  // namespace
}  // namespace ballast
