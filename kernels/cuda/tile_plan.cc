#include "kernels/cuda/tile_plan.h"

#include <algorithm>

namespace ballast::cuda {
namespace {

int64_t Pieces(int64_t total, int64_t size) { return (total + size - 1) / size; }

TilePlan Number(DType x, bool gate_up, std::vector<TiledGroup> groups, DType weight_type) {
  std::erase_if(groups, [](const TiledGroup& group) { return group.rows == 0; });
  int64_t most_rows = 0;
  for (const TiledGroup& group : groups) most_rows = std::max(most_rows, group.rows);
  TilePlan plan{ChooseKernel(x, most_rows), weight_type, std::move(groups), 0};
  const TileShape shape = ShapeOf(plan.kernel, gate_up);
  for (TiledGroup& group : plan.groups) {
    group.first_tile = plan.tiles;
    plan.tiles += Pieces(group.rows, shape.rows) * TilesAcross(plan.kernel, gate_up, group.n);
  }
  return plan;
}

}  // namespace

ProductKernel ChooseKernel(DType x, int64_t most_rows) {
  if (x != DType::kBF16) return ProductKernel::kExact;
  return most_rows <= kBf16FewTile.rows ? ProductKernel::kBf16Few : ProductKernel::kBf16Many;
}

int64_t TilesAcross(ProductKernel kernel, bool gate_up, int64_t n) {
  return Pieces(n, ShapeOf(kernel, gate_up).cols);
}

TilePlan PlanTiles(DType x, const MatmulGroup* groups, int64_t num_groups) {
  std::vector<TiledGroup> tiled;
  tiled.reserve(static_cast<size_t>(num_groups));
  for (int64_t g = 0; g < num_groups; ++g) {
    const MatmulGroup& group = groups[g];
    tiled.push_back({group.weight->data, nullptr, group.weight->n, group.weight->k,
                     PackedStride(group.weight->k), group.row_begin, group.rows, group.x_col,
                     group.out_col, 0});
  }
  const DType weight_type = num_groups == 0 ? DType::kF32 : groups[0].weight->type;
  return Number(x, false, std::move(tiled), weight_type);
}

TilePlan PlanTiles(DType x, const GateUpGroup* groups, int64_t num_groups) {
  std::vector<TiledGroup> tiled;
  tiled.reserve(static_cast<size_t>(num_groups));
  for (int64_t g = 0; g < num_groups; ++g) {
    const GateUpGroup& group = groups[g];
    tiled.push_back({group.gate->data, group.up->data, group.gate->n, group.gate->k,
                     PackedStride(group.gate->k), group.row_begin, group.rows, 0, 0, 0});
  }
  const DType weight_type = num_groups == 0 ? DType::kF32 : groups[0].gate->type;
  return Number(x, true, std::move(tiled), weight_type);
}

TilePlan PlanRoutedTiles(const RoutedRows& routed, const PackedMatrix& shape, bool gate_up,
                         const int64_t* listed_tiles) {
  TilePlan plan;
  // With half a small tile's rows for each expert, most have no more than one tile of them.
  const int64_t likely_rows = Pieces(2 * routed.rows, routed.experts);
  plan.kernel = ChooseKernel(routed.x, std::min(routed.rows, likely_rows));
  plan.weight_type = shape.type;
  // An expert's first row begins a tile, and so does every tile_rows-th after it.
  const int64_t tile_rows = ShapeOf(plan.kernel, gate_up).rows;
  const int64_t firsts = std::min<int64_t>(routed.rows, routed.experts);
  plan.tiles =
      (firsts + (routed.rows - firsts) / tile_rows) * TilesAcross(plan.kernel, gate_up, shape.n);
  plan.listed = routed.experts;
  plan.listed_tiles = listed_tiles;
  return plan;
}

}  // namespace ballast::cuda
