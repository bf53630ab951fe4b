#include "engine/moe/split.h"

#include <cstdlib>
#include <new>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/balance_cases.h"

// Counts for the step loop's promise, which is tested below.
namespace {
thread_local int64_t allocations = 0;
}  // namespace

// Not inlined: g++ would see malloc's memory reach a delete that it does not know as ours.
[[gnu::noinline]] void* operator new(size_t bytes) {
  ++allocations;
  void* memory = std::malloc(bytes);
  if (memory == nullptr) {
    std::abort();
  }
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace ballast {
namespace {

using testing::ElementsAre;

RowSplit SplitLayer(const Layer& layer, const Assignment& a) {
  SplitScratch scratch;
  RowSplit out;
  Split(layer.rows, layer.replicas, a, scratch, out);
  return out;
}

Assignment AssignLayer(const Layer& layer) {
  AssignScratch scratch;
  Assignment out;
  Assign(layer.rows, layer.replicas, layer.costs, scratch, out);
  return out;
}

TEST(Split, SumsAreTheRowsAndTheAssignment) {
  Random random(1);
  size_t spills = 0;
  for (int round = 0; round < 200; ++round) {
    Layer layer = RandomLayer({random(1, 8), random(1, 20), 21, 30, 5}, random);
    layer.costs.mode = round % 5 == 0 ? BalanceMode::kOff : BalanceMode::kSpill;
    layer.costs.max_imports = 3;
    layer.costs.tile_rows = random(1, 9);
    layer.costs.floor_cost = random(0, 3);
    if (round % 2 == 0) {
      layer.placement = EvenPlacement(layer.experts, layer.placement.ranks);
      BuildReplicas(layer.placement, layer.experts, {}, layer.replicas);
    }
    const Assignment a = AssignLayer(layer);
    spills += a.spills.size();
    const RowSplit split = SplitLayer(layer, a);
    const int slots = layer.replicas.slots();
    ASSERT_EQ(split.targets, slots + static_cast<int>(a.spills.size()));
    for (int target = 0; target < split.targets; ++target) {
      int64_t sum = 0;
      for (int source = 0; source < layer.placement.ranks; ++source) {
        ASSERT_GE(split.rows[source * split.targets + target], 0);
        sum += split.rows[source * split.targets + target];
      }
      EXPECT_EQ(sum, target < slots ? a.slot_rows[target] : a.spills[target - slots].rows);
    }
    for (int source = 0; source < layer.placement.ranks; ++source) {
      for (int expert = 0; expert < layer.experts; ++expert) {
        int64_t sum = 0;
        for (int target = 0; target < split.targets; ++target) {
          const int32_t of = target < slots ? layer.placement.slot_expert[target]
                                            : a.spills[target - slots].expert;
          sum += of == expert ? split.rows[source * split.targets + target] : 0;
        }
        EXPECT_EQ(sum, layer.rows[source * layer.experts + expert]);
      }
    }
  }
  EXPECT_GT(spills, 50u);
}

TEST(Split, LocalRowsFirstThenInOrder) {
  Layer layer;
  layer.experts = 1;
  layer.placement = {3, 1, {0, -1, 0}};
  BuildReplicas(layer.placement, 1, {}, layer.replicas);
  layer.rows = {4, 5, 6};
  Assignment a;
  a.slot_rows = {7, 0, 8};
  // Rank 0 keeps 4, rank 2 keeps 6; rank 1's five fill what is left, 3 and 2.
  EXPECT_THAT(SplitLayer(layer, a).rows, ElementsAre(4, 0, 0, 3, 0, 2, 0, 0, 6));
}

TEST(Split, PrefersATargetOnTheSameNode) {
  Layer layer;
  layer.experts = 1;
  layer.placement = {4, 1, {0, 0, -1, -1}};
  BuildReplicas(layer.placement, 1, std::vector<int32_t>{1, 2, 2, 1}, layer.replicas);
  layer.rows = {0, 0, 5, 5};
  Assignment a;
  a.slot_rows = {6, 4, 0, 0};
  EXPECT_THAT(SplitLayer(layer, a).rows,
              ElementsAre(0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 5, 0, 0, 0));
}

TEST(Split, ASpillsRowsComeFirstFromTheRankThatRunsIt) {
  Layer layer;
  layer.experts = 1;
  layer.placement = {2, 1, {0, -1}};
  BuildReplicas(layer.placement, 1, {}, layer.replicas);
  layer.rows = {6, 4};
  Assignment a;
  a.slot_rows = {5, 0};
  a.spills = {{0, 0, 1, 5}};
  EXPECT_THAT(SplitLayer(layer, a).rows, ElementsAre(5, 0, 1, 0, 0, 4));
}

TEST(Split, AndAssignAllocateNothingOnceWarm) {
  Random random(1);
  std::vector<Layer> layers;
  for (int i = 0; i < 20; ++i) {
    Layer layer = RandomLayer({8, 40, 7, 50, 7}, random);
    layer.costs.mode = BalanceMode::kSpill;
    layer.costs.max_imports = 3;
    layer.costs.floor_cost = i % 2 * 100;
    layer.costs.speed = RandomSpeeds(8, random);
    layers.push_back(std::move(layer));
  }
  AssignScratch scratch;
  Assignment assignment;
  SplitScratch split_scratch;
  RowSplit split;
  size_t spills = 0;
  for (int pass = 0; pass < 4; ++pass) {
    const int64_t before = allocations;
    for (const Layer& layer : layers) {
      Assign(layer.rows, layer.replicas, layer.costs, scratch, assignment);
      Split(layer.rows, layer.replicas, assignment, split_scratch, split);
      spills += assignment.spills.size();
    }
    EXPECT_TRUE(pass < 2 || allocations == before) << allocations - before;
  }
  EXPECT_GT(spills, 0u);
}

}  // namespace
}  // namespace ballast
