#include "engine/moe/rounding.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/balance_cases.h"

namespace ballast {
namespace {

using testing::ElementsAre;

int64_t LongestTime(const Layer& layer, const std::vector<int64_t>& tiles) {
  std::vector<int64_t> load(static_cast<size_t>(layer.placement.ranks), 0);
  for (size_t slot = 0; slot < tiles.size(); ++slot) {
    load[layer.replicas.slot_rank[slot]] +=
        tiles[slot] == 0 ? 0 : layer.costs.floor_cost + tiles[slot] * layer.costs.tile_cost;
  }
  int64_t longest = 0;
  for (int rank = 0; rank < layer.placement.ranks; ++rank) {
    longest = std::max(longest, TimeOfLoad(load[rank], SpeedOf(layer.costs, rank)));
  }
  return longest;
}

TEST(Rounding, ReturnsTheTimeOfWhatItLeavesAndNeverALongerOne) {
  Random random(1);
  RoundingScratch scratch;
  for (int round = 0; round < 300; ++round) {
    Layer layer = RandomLayer({random(1, 6), random(1, 15), 16, 9}, random);
    layer.costs.tile_cost = random(1, 3);
    layer.costs.floor_cost = random(1, 12);
    layer.costs.speed = RandomSpeeds(layer.placement.ranks, random);
    std::vector<int64_t> tiles(layer.placement.slot_expert.size(), 0);
    for (int expert = 0; expert < layer.experts; ++expert) {
      for (int64_t i = layer.RowsOf(expert); i > 0; --i) {
        const std::span<const int32_t> slots = layer.replicas.SlotsOf(expert);
        ++tiles[slots[static_cast<size_t>(random(0, static_cast<int>(slots.size()) - 1))]];
      }
    }
    const int64_t before = LongestTime(layer, tiles);
    const int64_t value = RoundToTiles(layer.replicas, layer.costs, 0, tiles, scratch);
    EXPECT_LE(value, before);
    EXPECT_EQ(value, LongestTime(layer, tiles));
    for (int expert = 0; expert < layer.experts; ++expert) {
      int64_t sum = 0;
      for (const int32_t slot : layer.replicas.SlotsOf(expert)) {
        EXPECT_GE(tiles[slot], 0);
        sum += tiles[slot];
      }
      EXPECT_EQ(sum, layer.RowsOf(expert));
    }
  }
}

TEST(Rounding, MovesWholeExpertsWhereThatSavesAFloor) {
  // Rank 0 has both experts whole; one goes, none is divided.
  Layer layer;
  BuildReplicas({2, 2, {0, 1, 0, 1}}, 2, {}, layer.replicas);
  layer.costs.floor_cost = 50;
  std::vector<int64_t> tiles = {10, 8, 0, 0};
  RoundingScratch scratch;
  EXPECT_EQ(RoundToTiles(layer.replicas, layer.costs, 59, tiles, scratch), 60);
  EXPECT_THAT(tiles, testing::AnyOf(ElementsAre(10, 0, 0, 8), ElementsAre(0, 8, 10, 0)));
}

TEST(Rounding, ExchangesExpertsBetweenFullRanks) {
  // 7 + 7 against 5 + 5; both ranks hold all four, and 7 + 5 on each is best.
  Layer layer;
  BuildReplicas({2, 4, {0, 1, 2, 3, 0, 1, 2, 3}}, 4, {}, layer.replicas);
  layer.costs.floor_cost = 100;
  std::vector<int64_t> tiles = {7, 7, 0, 0, 0, 0, 5, 5};
  RoundingScratch scratch;
  EXPECT_EQ(RoundToTiles(layer.replicas, layer.costs, 212, tiles, scratch), 212);
}

}  // namespace
}  // namespace ballast
