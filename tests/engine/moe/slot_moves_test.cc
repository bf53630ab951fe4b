#include "engine/moe/slot_moves.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

LayerPlacement Placed(int ranks, std::vector<int32_t> slots) {
  return {ranks, static_cast<int>(slots.size()) / ranks, std::move(slots)};
}

TEST(SlotMoves, ReorderingWithinARankIsNone) {
  EXPECT_THAT(ListSlotMoves(0, Placed(2, {0, 1, 2, 3}), Placed(2, {1, 0, 3, 2}), {}), IsEmpty());
}

TEST(SlotMoves, EveryArrivalComesFromAHolder) {
  EXPECT_THAT(ListSlotMoves(5, Placed(2, {0, 1, 2, -1}), Placed(2, {2, 1, 0, 1}), {}),
              ElementsAre(SlotMove{5, 2, 1, 0}, SlotMove{5, 0, 0, 1}, SlotMove{5, 1, 0, 1}));
}

TEST(SlotMoves, TheNearCopyIsSent) {
  // Expert 0 stands on ranks 0 and 2 and comes to 3, which shares a machine with 2.
  const std::vector<int32_t> node = {0, 0, 1, 1};
  const LayerPlacement from = Placed(4, {0, 1, 0, 2});
  const LayerPlacement to = Placed(4, {0, 1, 0, 0});
  EXPECT_THAT(ListSlotMoves(0, from, to, node), ElementsAre(SlotMove{0, 0, 2, 3}));
  EXPECT_THAT(ListSlotMoves(0, from, to, {}), ElementsAre(SlotMove{0, 0, 0, 3}));
}

TEST(SlotMoves, HoldersTakeTurns) {
  const LayerPlacement from = Placed(4, {0, 0, 1, 2});
  const LayerPlacement to = Placed(4, {0, 0, 0, 0});
  EXPECT_THAT(ListSlotMoves(0, from, to, {}),
              ElementsAre(SlotMove{0, 0, 0, 2}, SlotMove{0, 0, 1, 3}));
}

TEST(GroupChanges, LayersGoTogetherWhileEveryRankHasSpareBuffers) {
  const std::vector<LayerPlacement> current(4, Placed(2, {0, 1, 2, 3}));
  const LayerPlacement one = Placed(2, {0, 2, 1, 3});  // one arrival on each rank
  const LayerPlacement all = Placed(2, {2, 3, 0, 1});  // two
  const std::vector<LayerChange> changes = {{0, one}, {1, one}, {2, one}, {3, all}};
  EXPECT_THAT(GroupChanges(current, changes, 2), ElementsAre(2, 3, 4));
  EXPECT_THAT(GroupChanges(current, changes, 5), ElementsAre(4));
  // A layer that asks for more than there is goes alone, and fails or not where it is tried.
  EXPECT_THAT(GroupChanges(current, changes, 1), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(GroupChanges(current, {}, 1), IsEmpty());
}

}  // namespace
}  // namespace ballast
