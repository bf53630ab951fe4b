#include "kernels/cuda/tile_plan.h"

#include <gtest/gtest.h>

#include "tests/kernels/routings.h"

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

// Tiles that rows of experts make, counted one by one.
int64_t TilesOf(const Routing& routing, const TilePlan& plan, const PackedMatrix& shape) {
  std::vector<int64_t> rows(static_cast<size_t>(routing.experts));
  for (const int32_t id : routing.ids) ++rows[static_cast<size_t>(id)];
  int64_t tiles = 0;
  for (const int64_t count : rows) {
    const TileShape tile = ShapeOf(plan.kernel, false);
    tiles += (count + tile.rows - 1) / tile.rows * ((shape.n + tile.cols - 1) / tile.cols);
  }
  return tiles;
}

TEST(TilePlan, RoutedRowsNeverMakeMoreTilesThanPlanned) {
  const PackedMatrix shape{nullptr, DType::kBF16, 130, 64};
  for (uint32_t seed = 0; seed < 200; ++seed) {
    for (const Routing& routing : SomeRoutings(seed)) {
      for (const DType x : {DType::kF32, DType::kBF16}) {
        const auto rows = static_cast<int64_t>(routing.ids.size());
        const TilePlan plan = PlanRoutedTiles({x, rows, routing.experts}, shape, false, nullptr);
        EXPECT_LE(TilesOf(routing, plan, shape), plan.tiles);
      }
    }
  }
}

// The worst: one expert has all rows but one for each of the others.
TEST(TilePlan, RoutedRowsMayMakeAsManyTilesAsPlanned) {
  const PackedMatrix shape{nullptr, DType::kF32, 64, 64};
  Routing routing = OneForAll(1 + 64 + 3, 1, 4, 0);
  for (size_t e = 1; e < 4; ++e) routing.ids[e] = static_cast<int32_t>(e);
  const TilePlan plan = PlanRoutedTiles({DType::kF32, 68, 4}, shape, false, nullptr);
  EXPECT_EQ(plan.tiles, 4 + 2);
  EXPECT_EQ(TilesOf(routing, plan, shape), plan.tiles);
}

TEST(TilePlan, RoutedRowsGoToTheTileThatTheyAreLikelyToFill) {
  const PackedMatrix shape{nullptr, DType::kBF16, 64, 64};
  const auto kernel = [&](DType x, int64_t rows, int32_t experts) {
    return PlanRoutedTiles({x, rows, experts}, shape, true, nullptr).kernel;
  };
  EXPECT_EQ(kernel(DType::kF32, 4096, 8), ProductKernel::kExact);
  EXPECT_EQ(kernel(DType::kBF16, 512, 64), ProductKernel::kBf16Few);
  EXPECT_EQ(kernel(DType::kBF16, 513, 64), ProductKernel::kBf16Many);
  EXPECT_EQ(kernel(DType::kBF16, 16, 1), ProductKernel::kBf16Few);
}

TEST(TilePlan, NoGroupsAreNoTiles) {
  EXPECT_EQ(PlanTiles(DType::kBF16, static_cast<const MatmulGroup*>(nullptr), 0).tiles, 0);
}

}  // namespace
}  // namespace ballast::cuda
