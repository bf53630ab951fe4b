#include "engine/moe/bounds.h"

#include <vector>

#include "engine/moe/assignment.h"
#include "gtest/gtest.h"
#include "tools/balance_cases.h"

namespace ballast {
namespace {

TEST(FreePlacementBound, IsLoadOverSpeedRoundedUp) {
  CostParameters costs;
  costs.tile_rows = 4;
  costs.tile_cost = 10;
  costs.floor_cost = 5;
  costs.speed = {1024, 512};
  // 2 tiles and a floor, 1 tile and a floor, nothing: 40 over 1.5.
  EXPECT_EQ(FreePlacementBound(std::vector<int32_t>{5, 4, 0}, costs, 2), 27);
}

TEST(FreePlacementBound, NoAssignmentIsBelow) {
  Random random(1);
  for (int round = 0; round < 200; ++round) {
    Layer layer = RandomLayer({random(1, 6), random(1, 12), 13, 20}, random);
    layer.costs.floor_cost = random(0, 20);
    layer.costs.speed = RandomSpeeds(layer.placement.ranks, random);
    std::vector<int32_t> sums;
    for (int expert = 0; expert < layer.experts; ++expert) {
      sums.push_back(static_cast<int32_t>(layer.RowsOf(expert)));
    }
    EXPECT_LE(FreePlacementBound(sums, layer.costs, layer.placement.ranks),
              Assign(layer.rows, layer.experts, layer.placement, layer.costs).value);
  }
}

TEST(SlotBound, IsTheLeastTimeInWhichTheReplicasFit) {
  const std::vector<int64_t> load = {100, 10, 10};
  EXPECT_EQ(SlotBound(load, 3, 3), 100);
  EXPECT_EQ(SlotBound(load, 3, 4), 50);
  EXPECT_EQ(SlotBound(load, 3, 5), 40);  // the mean
  EXPECT_EQ(SlotBound(load, 3, 2), -1);
  EXPECT_EQ(SlotBound(std::vector<int64_t>{0, 0}, 2, 2), 0);
}

TEST(SlotBound, EveryLeastTimeFailsOneBelow) {
  Random random(2);
  for (int round = 0; round < 100; ++round) {
    std::vector<int64_t> load;
    int64_t sum = 0;
    for (int i = random(1, 12); i > 0; --i) {
      load.push_back(random(0, 300));
      sum += load.back();
    }
    const int ranks = random(1, 6);
    const int slots = static_cast<int>(load.size()) + random(0, 10);
    const int64_t time = SlotBound(load, ranks, slots);
    const auto needed = [&](int64_t t) {
      int64_t count = 0;
      for (const int64_t l : load) {
        count += std::max<int64_t>(1, (l + t - 1) / t);
      }
      return count;
    };
    if (time > 0) {
      EXPECT_LE(needed(time), slots);
      EXPECT_GE(time * ranks, sum);
    }
    if (time > 1) {
      EXPECT_TRUE(needed(time - 1) > slots || (time - 1) * ranks < sum);
    }
  }
}

}  // namespace
}  // namespace ballast
