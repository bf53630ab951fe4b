#include "engine/moe/dispatch.h"

#include <numeric>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::ElementsAre;

TEST(SortBySlot, RowsStandBySlotThenByTokenAndChoice) {
  // Experts 0, 1, 2 live in slots 2, 0, 1.
  const std::vector<int32_t> ids = {2, 0, 1, 2, 0, 2};
  const std::vector<int32_t> slot_of_expert = {2, 0, 1};
  ExpertRows rows;
  SortBySlot(ids, 2, slot_of_expert, 3, rows);
  EXPECT_THAT(rows.slot_begin, ElementsAre(0, 1, 4, 6));
  EXPECT_THAT(rows.source, ElementsAre(1, 0, 1, 2, 0, 2));
  EXPECT_THAT(rows.row_of, ElementsAre(1, 4, 0, 2, 5, 3));
}

TEST(SortBySlot, EverySlotGetsItsTokensAndNothingElse) {
  std::mt19937 random(3);
  ExpertRows rows;  // reused, as the step loop does
  for (int round = 0; round < 50; ++round) {
    const int experts = 1 + static_cast<int>(random() % 20);
    const int k = 1 + static_cast<int>(random() % 4);
    std::vector<int32_t> ids(k * (random() % 40));
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % experts);
    std::vector<int32_t> slot_of_expert(experts);
    std::iota(slot_of_expert.begin(), slot_of_expert.end(), 0);
    std::shuffle(slot_of_expert.begin(), slot_of_expert.end(), random);
    SortBySlot(ids, k, slot_of_expert, experts, rows);
    ASSERT_EQ(rows.slot_begin.back(), static_cast<int32_t>(ids.size()));
    ASSERT_EQ(rows.source.size(), ids.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      const int32_t row = rows.row_of[i];
      const int32_t slot = slot_of_expert[ids[i]];
      EXPECT_GE(row, rows.slot_begin[slot]);
      EXPECT_LT(row, rows.slot_begin[slot + 1]);
      EXPECT_EQ(rows.source[row], static_cast<int32_t>(i) / k);
    }
  }
}

TEST(SortBySlot, NoRowsGiveEmptySlots) {
  ExpertRows rows;
  SortBySlot({}, 2, std::vector<int32_t>{0, 1}, 2, rows);
  EXPECT_THAT(rows.slot_begin, ElementsAre(0, 0, 0));
}

}  // namespace
}  // namespace ballast
