#include "engine/moe/spill.h"

#include <set>

#include "engine/moe/assignment.h"
#include "engine/moe/bounds.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/balance_cases.h"

namespace ballast {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Assignment AssignLayer(const Layer& layer) {
  AssignScratch scratch;
  Assignment out;
  Assign(layer.rows, layer.replicas, layer.costs, scratch, out);
  return out;
}

// All rows of one layer go to rank 0's experts.
Layer Skewed(int ranks, int experts, int rows_each) {
  Layer layer;
  layer.experts = experts;
  layer.placement = EvenPlacement(experts, ranks);
  BuildReplicas(layer.placement, experts, {}, layer.replicas);
  layer.rows.assign(static_cast<size_t>(ranks) * experts, 0);
  for (int source = 0; source < ranks; ++source) {
    for (int expert = 0; expert < experts / ranks; ++expert) {
      layer.rows[static_cast<size_t>(source) * experts + expert] = rows_each;
    }
  }
  layer.costs.mode = BalanceMode::kSpill;
  layer.costs.max_imports = experts;
  return layer;
}

TEST(Spill, MovesHalfOfARanksLoadWithFewImports) {
  Layer layer = Skewed(2, 8, 100);
  layer.costs.floor_cost = 20;
  layer.costs.import_cost = 5;
  const Assignment a = AssignLayer(layer);
  EXPECT_EQ(a.assign_value, 4 * 220);
  // Two experts whole: 440 on each side, and the receiver waits for two imports.
  EXPECT_EQ(a.value, 450);
  EXPECT_EQ(a.spills.size(), 2u);
  EXPECT_THAT(a.rank_time, ElementsAre(440, 450));
}

TEST(Spill, IsNotWorthItWhenWeightsCostMoreThanTheyRelieve) {
  Layer layer = Skewed(2, 8, 10);
  layer.costs.import_cost = 80;
  EXPECT_THAT(AssignLayer(layer).spills, IsEmpty());
  layer.costs.import_cost = 10;
  EXPECT_GT(AssignLayer(layer).spills.size(), 0u);
  layer.costs.max_imports = 0;
  EXPECT_THAT(AssignLayer(layer).spills, IsEmpty());
  layer.costs.max_imports = 4;
  layer.costs.mode = BalanceMode::kAssign;
  EXPECT_THAT(AssignLayer(layer).spills, IsEmpty());
}

TEST(Spill, ASlowReceiverGetsLess) {
  Layer layer = Skewed(2, 2, 150);
  layer.costs.speed = {1024, 512};
  const Assignment a = AssignLayer(layer);
  ASSERT_EQ(a.spills.size(), 1u);
  EXPECT_EQ(a.spills[0], (Spill{0, 0, 1, 100}));
  EXPECT_EQ(a.value, 200);
}

TEST(Spill, TheNearCopySendsTheWeights) {
  // Expert 0 on ranks 0 and 1, which are overloaded; rank 2 is on rank 1's node.
  Layer layer;
  layer.experts = 1;
  layer.placement = {3, 1, {0, 0, -1}};
  BuildReplicas(layer.placement, 1, std::vector<int32_t>{1, 2, 2}, layer.replicas);
  layer.rows = {300, 300, 300};
  layer.costs.mode = BalanceMode::kSpill;
  layer.costs.max_imports = 1;
  const Assignment a = AssignLayer(layer);
  ASSERT_EQ(a.spills.size(), 1u);
  EXPECT_EQ(a.spills[0].from, 1);
  EXPECT_EQ(a.spills[0].to, 2);
  EXPECT_EQ(a.spills[0].rows, 300);
  EXPECT_EQ(a.value, 300);
}

TEST(Spill, OnRandomLoadsKeepsItsContract) {
  Random random(1);
  size_t spills = 0;
  for (int round = 0; round < 400; ++round) {
    const int ranks = random(1, 8);
    const int experts = random(1, 24);
    Layer layer =
        RandomLayer({ranks, experts, (experts + ranks - 1) / ranks + random(0, 2), 30, 6}, random);
    layer.costs.mode = BalanceMode::kSpill;
    layer.costs.tile_rows = random(1, 8);
    layer.costs.tile_cost = random(1, 50);
    layer.costs.floor_cost = random(0, 1) * random(0, 100);
    layer.costs.import_cost = random(0, 200);
    layer.costs.export_cost = random(0, 50);
    layer.costs.max_imports = random(0, 3);
    layer.costs.speed = RandomSpeeds(ranks, random);
    const Assignment a = AssignLayer(layer);
    spills += a.spills.size();
    EXPECT_LE(a.value, a.assign_value);
    EXPECT_LE(a.assign_value, a.plain_value);

    std::vector<int64_t> run(static_cast<size_t>(experts), 0);
    std::vector<int64_t> load(static_cast<size_t>(ranks), 0);
    std::vector<int64_t> extra(static_cast<size_t>(ranks), 0);
    std::vector<int> imports(static_cast<size_t>(ranks), 0);
    for (int slot = 0; slot < layer.replicas.slots(); ++slot) {
      const int32_t expert = layer.placement.slot_expert[slot];
      ASSERT_TRUE(a.slot_rows[slot] == 0 || expert >= 0);
      if (expert >= 0) {
        run[expert] += a.slot_rows[slot];
        load[layer.replicas.slot_rank[slot]] += CostOfRows(layer.costs, a.slot_rows[slot]);
      }
    }
    std::set<std::pair<int, int>> seen;
    for (const Spill& spill : a.spills) {
      EXPECT_GT(spill.rows, 0);
      EXPECT_TRUE(layer.Holds(spill.from, spill.expert));
      EXPECT_FALSE(layer.Holds(spill.to, spill.expert));
      EXPECT_TRUE(seen.emplace(spill.to, spill.expert).second);
      EXPECT_LE(++imports[spill.to], layer.costs.max_imports);
      run[spill.expert] += spill.rows;
      load[spill.to] += CostOfRows(layer.costs, spill.rows);
      extra[spill.to] += layer.costs.import_cost;
      extra[spill.from] += layer.costs.export_cost;
    }
    for (int expert = 0; expert < experts; ++expert) {
      EXPECT_EQ(run[expert], layer.RowsOf(expert));
    }
    int64_t value = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const int64_t time = TimeOfLoad(load[rank], layer.costs.speed[rank]) + extra[rank];
      EXPECT_EQ(a.rank_time[rank], time);
      value = std::max(value, time);
    }
    EXPECT_EQ(a.value, value);
  }
  EXPECT_GT(spills, 100u);
}

TEST(Spill, NeedsNoMoreImportsThanRanksForOneHotExpert) {
  // 95% of rows at one expert, 16 ranks: one import per rank with room is what matching needs.
  Layer layer = Skewed(16, 16, 1000);
  for (size_t i = 0; i < layer.rows.size(); ++i) {
    layer.rows[i] += 3;
  }
  const Assignment a = AssignLayer(layer);
  EXPECT_LE(a.spills.size(), 15u);
  EXPECT_LE(a.value, (a.assign_value + 2 * 45 * 16) / 16 * 11 / 10);
}

TEST(ForceSpills, EveryRankLendsHalfOfItsFullestExpert) {
  Layer layer = Skewed(2, 4, 10);
  layer.rows[2] = 7;  // rank 1's first expert
  Assignment a = AssignLayer(layer);
  ASSERT_GT(a.spills.size(), 0u);
  ForceSpills(layer.replicas, 1, a.slot_rows, a.spills);
  EXPECT_THAT(a.spills, ElementsAre(Spill{2, 1, 0, 4}, Spill{0, 0, 1, 10}));
  EXPECT_THAT(a.slot_rows, ElementsAre(10, 20, 3, 0));
}

TEST(ForceSpills, KeepsTheContractOnRandomLayers) {
  Random random(11);
  int64_t spills = 0;
  for (int round = 0; round < 300; ++round) {
    LayerShape shape{.ranks = random(1, 6), .experts = random(1, 20), .hot = 3};
    shape.slots_per_rank = (shape.experts + shape.ranks - 1) / shape.ranks + random(0, 2);
    Layer layer = RandomLayer(shape, random);
    layer.costs.mode = random(0, 1) == 0 ? BalanceMode::kAssign : BalanceMode::kSpill;
    layer.costs.max_imports = random(0, 3);
    Assignment a = AssignLayer(layer);
    ForceSpills(layer.replicas, layer.costs.max_imports, a.slot_rows, a.spills);
    std::vector<int64_t> run(static_cast<size_t>(shape.experts), 0);
    for (size_t slot = 0; slot < a.slot_rows.size(); ++slot) {
      EXPECT_GE(a.slot_rows[slot], 0);
      if (a.slot_rows[slot] > 0) run[layer.placement.slot_expert[slot]] += a.slot_rows[slot];
    }
    std::set<std::pair<int, int>> seen;
    std::vector<int> imports(static_cast<size_t>(shape.ranks), 0);
    for (const Spill& spill : a.spills) {
      EXPECT_TRUE(seen.insert({spill.to, spill.expert}).second);
      EXPECT_TRUE(layer.Holds(spill.from, spill.expert));
      EXPECT_FALSE(layer.Holds(spill.to, spill.expert));
      EXPECT_GT(spill.rows, 0);
      ++imports[spill.to];
      run[spill.expert] += spill.rows;
    }
    for (const int count : imports) EXPECT_LE(count, std::max(1, layer.costs.max_imports));
    for (int expert = 0; expert < shape.experts; ++expert) {
      EXPECT_EQ(run[expert], layer.RowsOf(expert));
    }
    spills += static_cast<int64_t>(a.spills.size());
  }
  EXPECT_GT(spills, 300);
}

}  // namespace
}  // namespace ballast
