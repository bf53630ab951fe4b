#include "kernels/cuda/matmul.h"

#include "kernels/cuda/arithmetic.h"
#include "kernels/cuda/launch.h"

namespace ballast::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerSm = 3;  // leaves 80 registers for a thread
constexpr int kTileRows = 32;
constexpr int kTileCols = 64;
constexpr int kTileK = 16;
constexpr int kRowsPerThread = 2;
constexpr int kColsPerThread = 4;
constexpr int kThreadCols = kTileCols / kColsPerThread;  // threads side by side
static_assert(kThreads == kThreadCols * (kTileRows / kRowsPerThread), "a thread per piece");

int64_t Pieces(int64_t total, int64_t size) { return (total + size - 1) / size; }

void Add(const TiledGroup& group, TilePlan& plan) {
  if (group.rows == 0) return;
  plan.groups.push_back(group);
  plan.groups.back().first_tile = plan.tiles;
  plan.tiles += Pieces(group.rows, kTileRows) * Pieces(group.n, kTileCols);
}

// The last group whose first tile is not after `tile`.
__device__ const TiledGroup& GroupOf(const TiledGroup* groups, int64_t count, int64_t tile) {
  int64_t low = 0;
  int64_t high = count;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (groups[middle].first_tile <= tile) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return groups[low];
}

// A piece of kTileK columns of `count` rows from `from`, as float; what lies outside is 0.
template <int kCount, typename T>
__device__ void LoadTile(const T* from, int64_t stride, int64_t rows, int64_t cols,
                         float (&to)[kTileK][kCount + 1]) {
  for (int i = static_cast<int>(threadIdx.x); i < kCount * kTileK; i += kThreads) {
    const int row = i / kTileK;
    const int col = i % kTileK;
    to[col][row] = row < rows && col < cols ? Load(from + row * stride + col) : 0.0f;
  }
}

// sums[i][j] += x tile row * weight tile column, `steps` of k, in order.
__device__ void MultiplyTiles(const float (&x)[kTileK][kTileRows + 1],
                              const float (&weight)[kTileK][kTileCols + 1], int steps,
                              float (&sums)[kRowsPerThread][kColsPerThread]) {
  const int row = static_cast<int>(threadIdx.x) / kThreadCols * kRowsPerThread;
  const int col = static_cast<int>(threadIdx.x) % kThreadCols;
  for (int k = 0; k < steps; ++k) {
    for (int i = 0; i < kRowsPerThread; ++i) {
      for (int j = 0; j < kColsPerThread; ++j) {
        sums[i][j] = __fmaf_rn(x[k][row + i], weight[k][col + j * kThreadCols], sums[i][j]);
      }
    }
  }
}

// What a tile is of its group.
struct Tile {
  int64_t row;   // of the group
  int64_t col;   // of the outputs
  int64_t rows;  // at most kTileRows
  int64_t cols;  // at most kTileCols
};

__device__ Tile TileOf(const TiledGroup& group, int64_t number) {
  const int64_t across = (group.n + kTileCols - 1) / kTileCols;
  Tile tile;
  tile.row = number / across * kTileRows;
  tile.col = number % across * kTileCols;
  tile.rows = group.rows - tile.row < kTileRows ? group.rows - tile.row : kTileRows;
  tile.cols = group.n - tile.col < kTileCols ? group.n - tile.col : kTileCols;
  return tile;
}

// finish(row, col, i, j) for this thread's outputs that lie inside, counted from the tile's begin.
template <typename Finish>
__device__ void ForOutputs(const Tile& tile, const Finish& finish) {
  const int row = static_cast<int>(threadIdx.x) / kThreadCols * kRowsPerThread;
  const int col = static_cast<int>(threadIdx.x) % kThreadCols;
  for (int i = 0; i < kRowsPerThread; ++i) {
    for (int j = 0; j < kColsPerThread; ++j) {
      const int c = col + j * kThreadCols;
      if (row + i < tile.rows && c < tile.cols) finish(row + i, c, i, j);
    }
  }
}

template <typename X, typename Weight, typename Out>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    MatmulKernel(const X* x, int64_t x_stride, const TiledGroup* groups, int64_t count, Out* out,
                 int64_t out_stride, bool accumulate) {
  SHARED_ARRAY(float, x_tile, kTileK*(kTileRows + 1));
  SHARED_ARRAY(float, weight_tile, kTileK*(kTileCols + 1));
  auto& x_part = *reinterpret_cast<float(*)[kTileK][kTileRows + 1]>(&x_tile);
  auto& weight_part = *reinterpret_cast<float(*)[kTileK][kTileCols + 1]>(&weight_tile);
  const TiledGroup& group = GroupOf(groups, count, blockIdx.x);
  const Tile tile = TileOf(group, blockIdx.x - group.first_tile);
  const int64_t stride = group.weight_stride;
  const X* const rows = x + (group.row_begin + tile.row) * x_stride + group.x_col;
  const Weight* const weight = static_cast<const Weight*>(group.weight) + tile.col * stride;
  float sums[kRowsPerThread][kColsPerThread] = {};
  for (int64_t k = 0; k < group.k; k += kTileK) {
    const int64_t left = group.k - k;
    LoadTile<kTileRows>(rows + k, x_stride, tile.rows, left, x_part);
    LoadTile<kTileCols>(weight + k, stride, tile.cols, left, weight_part);
    __syncthreads();
    MultiplyTiles(x_part, weight_part, static_cast<int>(left < kTileK ? left : kTileK), sums);
    __syncthreads();
  }
  Out* const to = out + (group.row_begin + tile.row) * out_stride + group.out_col + tile.col;
  ForOutputs(tile, [&](int64_t row, int64_t col, int i, int j) {
    Out* const at = to + row * out_stride + col;
    Store(at, accumulate ? Load(at) + sums[i][j] : sums[i][j]);
  });
}

template <typename X, typename Weight, typename Out>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    GateUpKernel(const X* x, int64_t x_stride, const TiledGroup* groups, int64_t count, Out* out,
                 int64_t out_stride) {
  SHARED_ARRAY(float, x_tile, kTileK*(kTileRows + 1));
  SHARED_ARRAY(float, gate_tile, kTileK*(kTileCols + 1));
  SHARED_ARRAY(float, up_tile, kTileK*(kTileCols + 1));
  auto& x_part = *reinterpret_cast<float(*)[kTileK][kTileRows + 1]>(&x_tile);
  auto& gate_part = *reinterpret_cast<float(*)[kTileK][kTileCols + 1]>(&gate_tile);
  auto& up_part = *reinterpret_cast<float(*)[kTileK][kTileCols + 1]>(&up_tile);
  const TiledGroup& group = GroupOf(groups, count, blockIdx.x);
  const Tile tile = TileOf(group, blockIdx.x - group.first_tile);
  const int64_t stride = group.weight_stride;
  const X* const rows = x + (group.row_begin + tile.row) * x_stride;
  const Weight* const gate = static_cast<const Weight*>(group.weight) + tile.col * stride;
  const Weight* const up = static_cast<const Weight*>(group.up) + tile.col * stride;
  float gates[kRowsPerThread][kColsPerThread] = {};
  float ups[kRowsPerThread][kColsPerThread] = {};
  for (int64_t k = 0; k < group.k; k += kTileK) {
    const int64_t left = group.k - k;
    LoadTile<kTileRows>(rows + k, x_stride, tile.rows, left, x_part);
    LoadTile<kTileCols>(gate + k, stride, tile.cols, left, gate_part);
    LoadTile<kTileCols>(up + k, stride, tile.cols, left, up_part);
    __syncthreads();
    const int steps = static_cast<int>(left < kTileK ? left : kTileK);
    MultiplyTiles(x_part, gate_part, steps, gates);
    MultiplyTiles(x_part, up_part, steps, ups);
    __syncthreads();
  }
  Out* const to = out + (group.row_begin + tile.row) * out_stride + tile.col;
  ForOutputs(tile, [&](int64_t row, int64_t col, int i, int j) {
    const float silu = gates[i][j] / (1.0f + Exp(-gates[i][j]));
    Store(to + row * out_stride + col, silu * ups[i][j]);
  });
}

// What the launches below have in common.
struct Operands {
  cudaStream_t stream;
  MatView x;
  const TiledGroup* groups;
  int64_t count;
  LaunchShape shape;
  MatView out;
  bool accumulate;
};

template <typename X, typename Weight, typename Out>
cudaError_t LaunchMatmul(const Operands& o) {
  return Launch("matmul", MatmulKernel<X, Weight, Out>, o.shape, o.stream,
                static_cast<const X*>(o.x.data), o.x.stride, o.groups, o.count,
                static_cast<Out*>(o.out.data), o.out.stride, o.accumulate);
}

template <typename X, typename Weight, typename Out>
cudaError_t LaunchGateUp(const Operands& o) {
  return Launch("gate_up", GateUpKernel<X, Weight, Out>, o.shape, o.stream,
                static_cast<const X*>(o.x.data), o.x.stride, o.groups, o.count,
                static_cast<Out*>(o.out.data), o.out.stride);
}

// By types: x f32 with any weight, or bf16 with bf16 weights; out f32 or bf16.
template <typename X, typename Weight>
cudaError_t LaunchMatmulTo(const Operands& o) {
  return o.out.type == DType::kF32 ? LaunchMatmul<X, Weight, float>(o)
                                   : LaunchMatmul<X, Weight, uint16_t>(o);
}

template <typename X, typename Weight>
cudaError_t LaunchGateUpTo(const Operands& o) {
  return o.out.type == DType::kF32 ? LaunchGateUp<X, Weight, float>(o)
                                   : LaunchGateUp<X, Weight, uint16_t>(o);
}

LaunchShape BlockPerTile(int64_t tiles) {
  return {dim3(static_cast<unsigned>(tiles)), dim3(kThreads)};
}

}  // namespace

TilePlan PlanTiles(const MatmulGroup* groups, int64_t num_groups) {
  TilePlan plan;
  for (int64_t g = 0; g < num_groups; ++g) {
    const MatmulGroup& group = groups[g];
    Add({group.weight->data, nullptr, group.weight->n, group.weight->k,
         PackedStride(group.weight->k), group.row_begin, group.rows, group.x_col, group.out_col, 0},
        plan);
  }
  return plan;
}

TilePlan PlanTiles(const GateUpGroup* groups, int64_t num_groups) {
  TilePlan plan;
  for (int64_t g = 0; g < num_groups; ++g) {
    const GateUpGroup& group = groups[g];
    Add({group.gate->data, group.up->data, group.gate->n, group.gate->k,
         PackedStride(group.gate->k), group.row_begin, group.rows, 0, 0, 0},
        plan);
  }
  return plan;
}

cudaError_t Matmul(cudaStream_t stream, MatView x, DType weight_type, const TiledGroup* groups,
                   int64_t count, int64_t tiles, MatView out, bool accumulate) {
  if (tiles == 0) return cudaSuccess;
  const Operands o{stream, x, groups, count, BlockPerTile(tiles), out, accumulate};
  if (x.type == DType::kBF16) return LaunchMatmulTo<uint16_t, uint16_t>(o);
  return weight_type == DType::kF32 ? LaunchMatmulTo<float, float>(o)
                                    : LaunchMatmulTo<float, uint16_t>(o);
}

cudaError_t GateUp(cudaStream_t stream, MatView x, DType weight_type, const TiledGroup* groups,
                   int64_t count, int64_t tiles, MatView out) {
  if (tiles == 0) return cudaSuccess;
  const Operands o{stream, x, groups, count, BlockPerTile(tiles), out, false};
  if (x.type == DType::kBF16) return LaunchGateUpTo<uint16_t, uint16_t>(o);
  return weight_type == DType::kF32 ? LaunchGateUpTo<float, float>(o)
                                    : LaunchGateUpTo<float, uint16_t>(o);
}

}  // namespace ballast::cuda
