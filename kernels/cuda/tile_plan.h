// How grouped matrix products are cut into tiles, a block of threads each. Pure host code.
//
// Which kernel multiplies depends on types alone where bits do: float32 x goes to the exact kernels
// (matmul.h), bf16 x with bf16 weights to the tensor cores (matmul_bf16.h), whose two tiles give
// the same bits.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/device.h"

namespace ballast::cuda {

// Elements from one row of a packed matrix to the next: rows begin 16 bytes apart at least. A
// packed matrix is [n, PackedStride(k)] of its type, row-major; what pads a row is never read.
constexpr int64_t PackedStride(int64_t k) { return (k + 7) / 8 * 8; }

enum class ProductKernel : uint8_t {
  kExact,
  kBf16Few,   // no group has more rows than one tile of it, or few are likely to
  kBf16Many,  // some have
};

struct TileShape {
  int64_t rows;
  int64_t cols;  // of the output
};

inline constexpr TileShape kExactTile = {32, 64};
inline constexpr TileShape kBf16FewTile = {16, 32};
inline constexpr TileShape kBf16ManyTile = {128, 128};

// A bf16 tile of gate_up has as many columns of weights, half of them gate, half up.
constexpr TileShape ShapeOf(ProductKernel kernel, bool gate_up) {
  if (kernel == ProductKernel::kExact) return kExactTile;
  const TileShape tile = kernel == ProductKernel::kBf16Few ? kBf16FewTile : kBf16ManyTile;
  return {tile.rows, gate_up ? tile.cols / 2 : tile.cols};
}

// `most_rows` is the largest group's. x f32 with any weight, or bf16 with bf16 weights.
ProductKernel ChooseKernel(DType x, int64_t most_rows);

// A group as the kernels see it. Addresses are device memory.
struct TiledGroup {
  const void* weight;  // of gate_up: gate
  const void* up;      // of gate_up; else null
  int64_t n;
  int64_t k;
  int64_t weight_stride;  // elements from one row of weights to the next
  int64_t row_begin;
  int64_t rows;
  int64_t x_col;
  int64_t out_col;
  int64_t first_tile;  // of all groups' tiles, in order
};

// Groups without rows are left out.
struct TilePlan {
  ProductKernel kernel = ProductKernel::kExact;
  DType weight_type = DType::kF32;  // of all groups
  std::vector<TiledGroup> groups;
  int64_t tiles = 0;
  // Of groups that only the GPU knows, `groups` being empty: how long their list is, and where in
  // device memory it says how many of `tiles` there are.
  int64_t listed = 0;
  const int64_t* listed_tiles = nullptr;
};
TilePlan PlanTiles(DType x, const MatmulGroup* groups, int64_t num_groups);
TilePlan PlanTiles(DType x, const GateUpGroup* groups, int64_t num_groups);

// Rows that a router spreads over experts, a group each; where they go is not known.
struct RoutedRows {
  DType x;
  int64_t rows;
  int32_t experts;
};
// A plan for them (group_rows.h), with as many tiles as they can make at most. `shape` is every
// expert's; with `gate_up` that of gate and of up.
TilePlan PlanRoutedTiles(const RoutedRows& routed, const PackedMatrix& shape, bool gate_up,
                         const int64_t* listed_tiles);

// Tiles side by side of a product with n outputs.
int64_t TilesAcross(ProductKernel kernel, bool gate_up, int64_t n);

}  // namespace ballast::cuda
