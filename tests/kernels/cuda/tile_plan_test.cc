#include "kernels/cuda/tile_plan.h"

#include <gtest/gtest.h>

namespace ballast::cuda {
namespace {

TEST(TilePlan, Float32RowsGoToTheExactKernels) {
  EXPECT_EQ(ChooseKernel(DType::kF32, 1), ProductKernel::kExact);
  EXPECT_EQ(ChooseKernel(DType::kF32, 1000), ProductKernel::kExact);
}

TEST(TilePlan, Bf16RowsGoToTheTileThatTheyFill) {
  EXPECT_EQ(ChooseKernel(DType::kBF16, 1), ProductKernel::kBf16Few);
  EXPECT_EQ(ChooseKernel(DType::kBF16, 16), ProductKernel::kBf16Few);
  EXPECT_EQ(ChooseKernel(DType::kBF16, 17), ProductKernel::kBf16Many);
}

TEST(TilePlan, GroupsWithoutRowsAreLeftOutAndTilesAreNumberedInOrder) {
  const PackedMatrix weight{nullptr, DType::kF32, 65, 9};
  const MatmulGroup groups[] = {{&weight, 0, 33, 0, 0}, {&weight, 33, 0, 0, 0}, {&weight, 33, 1}};
  const TilePlan plan = PlanTiles(DType::kF32, groups, 3);
  ASSERT_EQ(plan.groups.size(), 2u);
  EXPECT_EQ(plan.weight_type, DType::kF32);
  EXPECT_EQ(plan.groups[0].first_tile, 0);
  EXPECT_EQ(plan.groups[1].first_tile, 4);
  EXPECT_EQ(plan.groups[1].row_begin, 33);
  EXPECT_EQ(plan.groups[1].weight_stride, 16);
  EXPECT_EQ(plan.tiles, 6);
}

// The widest group decides; gate and up share a bf16 tile's columns.
TEST(TilePlan, Bf16TilesOfGateUpHaveHalfTheColumns) {
  const PackedMatrix weight{nullptr, DType::kBF16, 128, 64};
  const GateUpGroup few[] = {{&weight, &weight, 0, 16}, {&weight, &weight, 16, 2}};
  EXPECT_EQ(PlanTiles(DType::kBF16, few, 2).tiles, 2 * 128 / 16);
  const GateUpGroup many[] = {{&weight, &weight, 0, 129}, {&weight, &weight, 129, 2}};
  EXPECT_EQ(PlanTiles(DType::kBF16, many, 2).tiles, 6);
}

TEST(TilePlan, NoGroupsAreNoTiles) {
  EXPECT_EQ(PlanTiles(DType::kBF16, static_cast<const MatmulGroup*>(nullptr), 0).tiles, 0);
}

}  // namespace
}  // namespace ballast::cuda
