#include "server/load_history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

namespace ballast {
namespace {

using ::testing::ElementsAre;

// An engine that takes `rows` rows a second at one expert, `seconds` after its start.
ExpertLoad Steady(double seconds, int experts = 2) {
  ExpertLoad load;
  const auto count = static_cast<int64_t>(seconds * 10);
  load.steps = count;
  load.tokens = count;
  LayerLoad layer;
  layer.layer = 1;
  layer.expert_rows.assign(static_cast<size_t>(experts), 0);
  layer.expert_rows[0] = count;
  layer.rank_rows = {count, 0};
  load.layers.push_back(layer);
  return load;
}

TEST(LoadHistory, ADifferenceTakesCountsApartAndTheRestFromTheLaterOne) {
  ExpertLoad earlier = Steady(1);
  ExpertLoad later = Steady(4);
  earlier.slot_moves = 2;
  earlier.rank_wait_seconds = {0.5, 1};
  earlier.rank_speed = {1, 1};
  later.placement_version = 3;
  later.slot_moves = 7;
  later.rank_wait_seconds = {2.5, 1};
  later.rank_speed = {1, 0.5};
  const ExpertLoad load = LoadBetween(earlier, later);
  EXPECT_EQ(load.placement_version, 3u);
  EXPECT_EQ(load.steps, 30);
  EXPECT_EQ(load.tokens, 30);
  EXPECT_EQ(load.slot_moves, 5);
  EXPECT_THAT(load.layers[0].expert_rows, ElementsAre(30, 0));
  EXPECT_THAT(load.layers[0].rank_rows, ElementsAre(30, 0));
  EXPECT_THAT(load.rank_wait_seconds, ElementsAre(2, 0));
  EXPECT_THAT(load.rank_speed, ElementsAre(1, 0.5));
}

TEST(LoadHistory, WhatAnEarlierSnapshotLacksCountsFromNothing) {
  EXPECT_THAT(LoadBetween({}, Steady(2)).layers[0].expert_rows, ElementsAre(20, 0));
}

TEST(LoadHistory, AWindowBeginsAtASnapshot) {
  LoadHistory history(100);
  for (int second = 0; second <= 10; ++second) history.Add(100 + second, Steady(second));
  const WindowLoad window = history.Window(110.5, Steady(10.5), 3);
  EXPECT_DOUBLE_EQ(window.seconds, 3.5);
  EXPECT_EQ(window.load.layers[0].expert_rows[0], 35);
}

TEST(LoadHistory, NoWindowAndOneBeyondTheStartAreAllThereWas) {
  LoadHistory history(100);
  history.Add(101, Steady(1));
  for (const double window : {0.0, 5.0, 1000.0}) {
    const WindowLoad all = history.Window(105, Steady(5), window);
    EXPECT_DOUBLE_EQ(all.seconds, 5);
    EXPECT_EQ(all.load.tokens, 50);
  }
}

TEST(LoadHistory, SnapshotsOfTheSameSecondAreNotKept) {
  LoadHistory history(0);
  EXPECT_TRUE(history.Due(0));
  for (int i = 0; i < 100; ++i) history.Add(0.001 * i, Steady(0));
  EXPECT_EQ(history.snapshots(), 1u);
  EXPECT_FALSE(history.Due(0.5));
  EXPECT_TRUE(history.Due(1));
}

TEST(LoadHistory, EveryWindowIsAnEighthLongerAtMost) {
  LoadHistory history(0);
  constexpr int kDay = 24 * 3600;
  constexpr int kNow = 2 * kDay;
  for (int second = 0; second <= kNow; ++second) history.Add(second, Steady(second));
  for (const int window : {1, 2, 7, 60, 600, 3600, kDay / 2, kDay}) {
    const WindowLoad got = history.Window(kNow, Steady(kNow), window);
    EXPECT_GE(got.seconds, window);
    EXPECT_LE(got.seconds, window * 1.125 + 2) << window;
    EXPECT_EQ(got.load.tokens, static_cast<int64_t>(got.seconds * 10));
  }
  EXPECT_LT(history.snapshots(), 300u);
}

TEST(LoadHistory, MemoryStaysBoundedWhateverTheModel) {
  constexpr size_t kBytes = 1 << 20;
  constexpr std::pair<int, int> kExpertsAndSeconds[] = {{10, 5000}, {1000, 5000}, {60000, 100}};
  for (const auto& [experts, seconds] : kExpertsAndSeconds) {
    LoadHistory history(0, kBytes);
    for (int second = 0; second < seconds; ++second) history.Add(second, Steady(second, experts));
    EXPECT_LE(history.bytes(), kBytes);
    EXPECT_GE(history.snapshots(), 2u);
    EXPECT_GE(history.Window(seconds, Steady(seconds, experts), 1).seconds, 1);
  }
}

}  // namespace
}  // namespace ballast
