#include "tools/eplb.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::ElementsAre;

// What the published Python answers: rebalance_experts(w, 12, 1, 1, 4).
TEST(EplbPlacement, IsWhatThePublishedCodeAnswers) {
  const std::vector<double> even = {90, 132, 40, 61, 104, 165, 39, 4, 73, 56};
  EXPECT_THAT(EplbPlacement(even, 4, 3).slot_expert,
              ElementsAre(4, 3, 7, 0, 1, 6, 5, 8, 2, 5, 1, 9));
  const std::vector<double> hot = {100, 7, 6, 5, 4, 3, 2, 1, 9, 8};
  EXPECT_THAT(EplbPlacement(hot, 4, 3).slot_expert,
              ElementsAre(0, 2, 7, 0, 3, 6, 0, 4, 5, 8, 9, 1));
}

TEST(EplbPlacement, FoldsAReplicaThatStandsTwiceOnARank) {
  const std::vector<double> load = {100, 1};
  EXPECT_THAT(EplbPlacement(load, 2, 2).slot_expert, ElementsAre(0, -1, 0, 1));
}

}  // namespace
}  // namespace ballast
