#include "engine/moe/assignment.h"

#include <cstdlib>
#include <functional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/balance_cases.h"
#include "tools/expert_loads.h"

namespace ballast {
namespace {

using testing::ElementsAre;

std::vector<LayerShape> Shapes() {
  return {{1, 1, 1},         {1, 6, 8},         {2, 3, 2},        {3, 5, 3, 20},
          {4, 8, 3, 30, 4},  {4, 16, 5, 50, 7}, {8, 4, 2, 9},  // more ranks than experts
          {5, 6, 6, 12},                                       // replicas everywhere
          {8, 64, 9, 6, 16}, {16, 40, 5, 8, 5}, {70, 90, 2, 5, 9}};
}

// Integer arithmetic of the contract, written again.
int64_t TimeOf(const Layer& layer, const std::vector<int32_t>& slot_rows) {
  int64_t longest = 0;
  for (int rank = 0; rank < layer.placement.ranks; ++rank) {
    int64_t load = 0;
    for (int i = 0; i < layer.placement.slots_per_rank; ++i) {
      const int64_t rows = slot_rows[rank * layer.placement.slots_per_rank + i];
      const int64_t tiles = (rows + layer.costs.tile_rows - 1) / layer.costs.tile_rows;
      load += rows > 0 ? layer.costs.floor_cost + tiles * layer.costs.tile_cost : 0;
    }
    const int64_t speed = layer.costs.speed.empty() ? 1024 : layer.costs.speed[rank];
    longest = std::max(longest, (load * 1024 + speed - 1) / speed);
  }
  return longest;
}

// The cut, summed up again from the placement itself.
void ExpectCertificate(const Layer& layer, const Assignment& a) {
  const CostParameters& costs = layer.costs;
  if (a.bound == 0) {
    EXPECT_EQ(a.bound_kind, BoundKind::kNone);
    return;
  }
  const int64_t piece = costs.floor_cost + costs.tile_cost;
  const int64_t tiles_of_piece = (piece + costs.tile_cost - 1) / costs.tile_cost;
  int64_t demand = 0;
  for (const int32_t expert : a.bound_experts) {
    const int64_t tiles = (layer.RowsOf(expert) + costs.tile_rows - 1) / costs.tile_rows;
    ASSERT_GT(tiles, 0);
    switch (a.bound_kind) {
      case BoundKind::kNone:
        FAIL();
      case BoundKind::kTiles:
        demand += tiles;
        break;
      case BoundKind::kFloors:
        demand += costs.floor_cost + tiles * costs.tile_cost;
        break;
      case BoundKind::kPieces:
        demand += (tiles + tiles_of_piece - 1) / tiles_of_piece;
        break;
    }
  }
  const int64_t unit = a.bound_kind == BoundKind::kTiles    ? costs.tile_cost
                       : a.bound_kind == BoundKind::kFloors ? 1
                                                            : piece;
  int64_t capacity = 0;
  for (int rank = 0; rank < layer.placement.ranks; ++rank) {
    const bool holds = std::any_of(a.bound_experts.begin(), a.bound_experts.end(),
                                   [&](int32_t expert) { return layer.Holds(rank, expert); });
    const int64_t speed = costs.speed.empty() ? 1024 : costs.speed[rank];
    capacity += holds ? (a.bound - 1) * speed / 1024 / unit : 0;
  }
  EXPECT_LT(capacity, demand);
  EXPECT_TRUE(BoundIsProven(layer.rows, layer.replicas, costs, a));
}

void ExpectAllRowsRunWhereTheirExpertIs(const Layer& layer, const Assignment& a) {
  std::vector<int64_t> run(static_cast<size_t>(layer.experts), 0);
  ASSERT_EQ(a.slot_rows.size(), layer.placement.slot_expert.size());
  for (size_t slot = 0; slot < a.slot_rows.size(); ++slot) {
    const int32_t expert = layer.placement.slot_expert[slot];
    ASSERT_GE(a.slot_rows[slot], 0);
    if (expert < 0) {
      ASSERT_EQ(a.slot_rows[slot], 0);
    } else {
      run[static_cast<size_t>(expert)] += a.slot_rows[slot];
    }
  }
  for (int expert = 0; expert < layer.experts; ++expert) {
    ASSERT_EQ(run[static_cast<size_t>(expert)], layer.RowsOf(expert));
  }
}

Assignment AssignLayer(const Layer& layer) {
  AssignScratch scratch;
  Assignment out;
  Assign(layer.rows, layer.replicas, layer.costs, scratch, out);
  return out;
}

// The least value of all ways to divide each expert's tiles over its slots.
int64_t Enumerate(const Layer& layer) {
  std::vector<int32_t> slot_rows(layer.placement.slot_expert.size(), 0);
  int64_t best = INT64_MAX;
  const std::function<void(int)> expert_from = [&](int expert) {
    if (expert == layer.experts) {
      best = std::min(best, TimeOf(layer, slot_rows));
      return;
    }
    const std::span<const int32_t> slots = layer.replicas.SlotsOf(expert);
    const std::function<void(size_t, int64_t)> slot_from = [&](size_t i, int64_t rows) {
      if (i + 1 == slots.size()) {
        slot_rows[slots[i]] = static_cast<int32_t>(rows);
        expert_from(expert + 1);
        slot_rows[slots[i]] = 0;
        return;
      }
      for (int64_t here = 0;; here += layer.costs.tile_rows) {
        slot_rows[slots[i]] = static_cast<int32_t>(std::min(here, rows));
        slot_from(i + 1, rows - std::min(here, rows));
        if (here >= rows) {
          break;
        }
      }
      slot_rows[slots[i]] = 0;
    };
    slot_from(0, layer.RowsOf(expert));
  };
  expert_from(0);
  return best;
}

TEST(Assign, WithoutFloorTheValueEqualsItsCertificate) {
  Random random(1);
  for (const LayerShape& shape : Shapes()) {
    for (int round = 0; round < 60; ++round) {
      Layer layer = RandomLayer(shape, random);
      layer.costs.tile_rows = round % 3 == 0 ? 1 : random(1, 20);
      layer.costs.tile_cost = round % 2 == 0 ? 1 : random(1, 5000);
      if (round % 4 >= 2) {
        layer.costs.speed = RandomSpeeds(shape.ranks, random);
      }
      const Assignment a = AssignLayer(layer);
      ExpectAllRowsRunWhereTheirExpertIs(layer, a);
      EXPECT_EQ(a.value, TimeOf(layer, a.slot_rows));
      EXPECT_EQ(a.value, a.bound);
      EXPECT_EQ(a.gap(), 0);
      EXPECT_LE(a.value, a.plain_value);
      ExpectCertificate(layer, a);
    }
  }
}

TEST(Assign, WithFloorTheBoundIsProvenAndTheValueIsNoWorseThanPlain) {
  Random random(2);
  for (const LayerShape& shape : Shapes()) {
    double gap = 0;
    const int rounds = 40;
    for (int round = 0; round < rounds; ++round) {
      Layer layer = RandomLayer(shape, random);
      layer.costs.tile_rows = round % 3 == 0 ? 16 : random(1, 8);
      layer.costs.tile_cost = random(1, 1000);
      layer.costs.floor_cost = random(1, 4000);
      if (round % 2 == 0) {
        layer.costs.speed = RandomSpeeds(shape.ranks, random);
      }
      const Assignment a = AssignLayer(layer);
      ExpectAllRowsRunWhereTheirExpertIs(layer, a);
      EXPECT_EQ(a.value, TimeOf(layer, a.slot_rows));
      EXPECT_GE(a.gap(), 0);
      EXPECT_LE(a.value, a.plain_value);
      ExpectCertificate(layer, a);
      gap += a.bound > 0 ? static_cast<double>(a.value) / static_cast<double>(a.bound) : 1;
    }
    // What the heuristic reaches on these loads, which change with no release of a library.
    EXPECT_LT(gap / rounds, 1.12) << shape.ranks << " ranks, " << shape.experts << " experts";
  }
}

TEST(Assign, FindsWhatEnumerationFindsWithoutFloor) {
  Random random(3);
  for (int round = 0; round < 300; ++round) {
    Layer layer = RandomLayer({random(1, 3), random(1, 3), 3, 2}, random);
    layer.costs.tile_rows = random(1, 2);
    layer.costs.tile_cost = random(1, 9);
    layer.costs.speed = RandomSpeeds(layer.placement.ranks, random);
    EXPECT_EQ(AssignLayer(layer).value, Enumerate(layer));
  }
}

TEST(Assign, StaysBetweenTheBoundAndAFewPercentOfWhatEnumerationFindsWithFloor) {
  Random random(4);
  int optimal = 0;
  const int rounds = 300;
  for (int round = 0; round < rounds; ++round) {
    Layer layer = RandomLayer({random(1, 3), random(1, 4), 4, 2}, random);
    layer.costs.tile_rows = random(1, 2);
    layer.costs.tile_cost = random(1, 9);
    layer.costs.floor_cost = random(1, 30);
    if (round % 2 == 0) {
      layer.costs.speed = RandomSpeeds(layer.placement.ranks, random);
    }
    const Assignment a = AssignLayer(layer);
    const int64_t best = Enumerate(layer);
    EXPECT_LE(a.bound, best);
    EXPECT_GE(a.value, best);
    optimal += a.value == best ? 1 : 0;
  }
  EXPECT_GE(optimal, rounds * 9 / 10);
}

TEST(Assign, IsTheSameOnEveryRankWhateverItsScratchHeld) {
  Random random(5);
  AssignScratch used;
  Assignment out;
  for (const LayerShape& shape : Shapes()) {
    Layer layer = RandomLayer(shape, random);
    layer.costs.floor_cost = random(0, 1) * 50;
    layer.costs.mode = BalanceMode::kSpill;
    layer.costs.max_imports = 2;
    Assign(layer.rows, layer.replicas, layer.costs, used, out);
    const Assignment fresh = AssignLayer(layer);
    EXPECT_EQ(out.slot_rows, fresh.slot_rows);
    EXPECT_EQ(out.spills, fresh.spills);
    EXPECT_EQ(out.value, fresh.value);
    EXPECT_EQ(out.bound_experts, fresh.bound_experts);
    EXPECT_EQ(out.rank_time, fresh.rank_time);
  }
}

TEST(Assign, KeepsRowsOnTheirOwnRankWhenThatIsNoSlower) {
  // Both ranks hold both experts; each has as many rows as the other.
  const LayerPlacement placement{2, 2, {0, 1, 0, 1}};
  const Assignment a = Assign(std::vector<int32_t>{7, 1, 2, 6}, 2, placement, {});
  EXPECT_EQ(a.value, 8);
  EXPECT_THAT(a.slot_rows, ElementsAre(7, 1, 2, 6));
}

TEST(Assign, MovesOnlyWhatIsOverTheValue) {
  const LayerPlacement placement{2, 2, {0, 1, 0, 1}};
  const Assignment a = Assign(std::vector<int32_t>{9, 3, 2, 6}, 2, placement, {});
  EXPECT_EQ(a.value, 10);
  EXPECT_EQ(a.slot_rows[0] + a.slot_rows[1], 10);
  EXPECT_EQ(a.bound_kind, BoundKind::kTiles);
  EXPECT_THAT(a.bound_experts, ElementsAre(0, 1));
}

TEST(Assign, RowsWithoutALocalReplicaMoveBeforeLocalOnes) {
  // Rank 0 runs 6 local rows of expert 0 and rank 2's 4 rows of expert 1; rank 1 holds both.
  const LayerPlacement placement{3, 2, {0, 1, 0, 1, 2, -1}};
  const std::vector<int32_t> rows = {6, 0, 0, 0, 0, 0, 0, 4, 0};
  const Assignment a = Assign(rows, 3, placement, {});
  EXPECT_EQ(a.value, 5);
  EXPECT_THAT(a.slot_rows, ElementsAre(5, 0, 1, 4, 0, 0));
}

TEST(Assign, GivesASlowRankLess) {
  const LayerPlacement placement{2, 1, {0, 0}};
  CostParameters costs;
  costs.speed = {1024, 512};
  const Assignment a = Assign(std::vector<int32_t>{15, 15}, 1, placement, costs);
  EXPECT_THAT(a.slot_rows, ElementsAre(20, 10));
  EXPECT_EQ(a.value, 20);
}

TEST(Assign, WithAFloorGathersAnExpertOnOneRank) {
  // Two experts on both ranks, rows from both: apart they cost a floor less each.
  const LayerPlacement placement{2, 2, {0, 1, 0, 1}};
  CostParameters costs;
  costs.floor_cost = 100;
  const Assignment a = Assign(std::vector<int32_t>{5, 4, 3, 5}, 2, placement, costs);
  EXPECT_EQ(a.value, 109);
  EXPECT_THAT(a.slot_rows, ElementsAre(8, 0, 0, 9));
}

TEST(Assign, WithAFloorKeepsRowsAtHomeWhenThatIsNoSlower) {
  // Rank 2 alone takes longer than either rank that expert 0 could gather on.
  const LayerPlacement placement{3, 1, {0, 0, 1}};
  CostParameters costs;
  costs.floor_cost = 10;
  const Assignment a = Assign(std::vector<int32_t>{5, 50, 6, 50, 0, 50}, 2, placement, costs);
  EXPECT_EQ(a.value, 160);
  EXPECT_THAT(a.slot_rows, ElementsAre(5, 6, 150));
}

TEST(Assign, OffRunsEveryRowWherePlainExpertParallelismDoes) {
  // Expert 0 on ranks 0 and 1; rank 2 and 3 send theirs to replica (source modulo 2).
  const LayerPlacement placement{4, 1, {0, 0, 1, 2}};
  CostParameters costs;
  costs.mode = BalanceMode::kOff;
  const std::vector<int32_t> rows = {1, 0, 0, 2, 0, 0, 4, 3, 0, 8, 0, 5};
  const Assignment a = Assign(rows, 3, placement, costs);
  EXPECT_THAT(a.slot_rows, ElementsAre(1 + 4, 2 + 8, 3, 5));
  EXPECT_EQ(a.value, a.plain_value);
  EXPECT_EQ(a.value, 10);
  EXPECT_EQ(a.bound_kind, BoundKind::kNone);
}

TEST(Assign, NoRowsTakeNoTime) {
  const LayerPlacement placement{2, 2, {0, 1, 2, -1}};
  for (const int floor : {0, 10}) {
    CostParameters costs;
    costs.floor_cost = floor;
    costs.mode = BalanceMode::kSpill;
    costs.max_imports = 2;
    const Assignment a = Assign(std::vector<int32_t>(6, 0), 3, placement, costs);
    EXPECT_EQ(a.value, 0);
    EXPECT_EQ(a.bound, 0);
    EXPECT_TRUE(a.bound_experts.empty());
    EXPECT_THAT(a.slot_rows, ElementsAre(0, 0, 0, 0));
  }
}

TEST(Assign, AnExpertThatStandsNowhereMayHaveNoRows) {
  const LayerPlacement placement{2, 1, {0, -1}};
  EXPECT_EQ(Assign(std::vector<int32_t>{3, 0, 4, 0}, 2, placement, {}).value, 7);
  EXPECT_DEATH(Assign(std::vector<int32_t>{3, 1, 4, 0}, 2, placement, {}), "CHECK failed");
}

// Real routing: the mean over steps and layers of value / bound, and the worst.
struct Gap {
  double mean = 0;
  double worst = 1;
  int steps = 0;
};

Gap GapOnRealLoads(const RoutedTokens& routed, const CostParameters& costs, int slots_per_rank) {
  const int ranks = 8;
  const int experts = 64;
  const size_t tokens = 170;
  const size_t half = routed.tokens() / 2;
  Gap gap;
  AssignScratch scratch;
  Assignment a;
  for (size_t l = 0; l < routed.layers.size(); ++l) {
    Layer layer;
    layer.experts = experts;
    layer.costs = costs;
    std::vector<double> load(experts, 1e-3);
    for (size_t i = 0; i < half * 6; ++i) {
      load[static_cast<size_t>(routed.layers[l][i])] += 1;
    }
    layer.placement = PackedPlacement(load, ranks, slots_per_rank);
    BuildReplicas(layer.placement, experts, {}, layer.replicas);
    for (size_t first = half; first + tokens <= routed.tokens(); first += tokens) {
      layer.rows = RowsOfStep(routed, l, first, tokens, ranks, experts);
      Assign(layer.rows, layer.replicas, costs, scratch, a);
      ExpectAllRowsRunWhereTheirExpertIs(layer, a);
      ExpectCertificate(layer, a);
      EXPECT_EQ(a.value, TimeOf(layer, a.slot_rows));
      EXPECT_LE(a.value, a.plain_value);
      const double ratio = static_cast<double>(a.value) / static_cast<double>(a.bound);
      gap.mean += ratio;
      gap.worst = std::max(gap.worst, ratio);
      ++gap.steps;
    }
  }
  gap.mean /= std::max(1, gap.steps);
  return gap;
}

void ExpectSmallGaps(const RoutedTokens& routed) {
  for (const int slots_per_rank : {9, 10, 16}) {
    CostParameters costs;
    const Gap exact = GapOnRealLoads(routed, costs, slots_per_rank);
    EXPECT_GT(exact.steps, 0);
    EXPECT_EQ(exact.mean, 1);
    EXPECT_EQ(exact.worst, 1);
    costs.tile_cost = 100;
    costs.floor_cost = 1600;
    const Gap floor = GapOnRealLoads(routed, costs, slots_per_rank);
    EXPECT_LT(floor.mean, 1.05);
    EXPECT_LT(floor.worst, 1.12);
  }
}

TEST(Assign, MeetsItsCertificateOnAnExcerptOfRealLoads) {
  const RoutedTokens routed =
      ReadRoutedTokens(BALLAST_SOURCE_DIR "/tests/data/loads/esft_law_excerpt.csv");
  ASSERT_EQ(routed.layers.size(), 3u);
  ASSERT_EQ(routed.tokens(), 340u);
  ExpectSmallGaps(routed);
}

TEST(Assign, MeetsItsCertificateOnAllRealLoads) {
  const char* shared = std::getenv("BALLAST_SHARED");
  const std::string folder = shared != nullptr ? shared : BALLAST_SOURCE_DIR "/../shared";
  for (const char* task : {"intent", "law", "summary"}) {
    const RoutedTokens routed =
        ReadRoutedTokens(folder + "/data/loads/esft_tokens/" + task + ".csv.gz");
    if (routed.layers.empty()) {
      GTEST_SKIP() << "no token files in " << folder << "/data/loads";
    }
    ASSERT_EQ(routed.layers.size(), 26u);
    ExpectSmallGaps(routed);
  }
}

}  // namespace
}  // namespace ballast
