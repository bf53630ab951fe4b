#include "kernels/cuda/matmul_bf16.h"

#include "kernels/cuda/arithmetic.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tiled_groups.h"

namespace ballast::cuda {
namespace {

constexpr int kMmaRows = 16;
constexpr int kMmaCols = 8;
constexpr int kMmaK = 16;
constexpr int kChunk = 8;  // elements of 16 bytes, which are copied at once

struct Few {
  static constexpr int kRows = static_cast<int>(kBf16FewTile.rows);
  static constexpr int kCols = static_cast<int>(kBf16FewTile.cols);
  static constexpr int kK = 64;
  static constexpr int kStages = 6;
  static constexpr int kWarpRows = 16;
  static constexpr int kWarpCols = 16;
  static constexpr int kBlocksPerSm = 6;
};

struct Many {
  static constexpr int kRows = static_cast<int>(kBf16ManyTile.rows);
  static constexpr int kCols = static_cast<int>(kBf16ManyTile.cols);
  static constexpr int kK = 32;
  static constexpr int kStages = 3;
  static constexpr int kWarpRows = 32;
  static constexpr int kWarpCols = 64;
  static constexpr int kBlocksPerSm = 2;
};

template <typename Shape>
constexpr int kWarpsAcross = Shape::kCols / Shape::kWarpCols;
template <typename Shape>
constexpr int kThreads = 32 * kWarpsAcross<Shape>*(Shape::kRows / Shape::kWarpRows);
template <typename Shape>
constexpr int kChunks = Shape::kK / kChunk;  // of a row
template <typename Shape>
constexpr int kStageChunks = (Shape::kRows + Shape::kCols) * kChunks<Shape>;

// Where a chunk of a row lies: turned so that the 8 rows of one ldmatrix are in different banks.
template <typename Shape>
__device__ inline uint4* ChunkAt(uint4* part, int row, int chunk) {
  constexpr int kCount = kChunks<Shape>;
  return part + row * kCount + (chunk ^ row / (8 / kCount) % kCount);
}

// What a block reads.
struct Source {
  const uint16_t* x;
  int64_t x_stride;
  int rows;
  bool x_aligned;
  const uint16_t* weight;
  const uint16_t* up;  // of gate_up
  int64_t weight_stride;
  int cols;  // of each weight
  int k;
};

// Elements of a chunk at column `col` that are inside.
__device__ inline int Inside(int col, int k) {
  const int left = k - col;
  return left >= kChunk ? kChunk : left > 0 ? left : 0;
}

__device__ inline void CopyElements(uint4* to, const uint16_t* from, int count) {
  uint32_t pairs[kChunk / 2];
  for (int i = 0; i < kChunk / 2; ++i) {
    const uint32_t low = 2 * i < count ? from[2 * i] : 0;
    const uint32_t high = 2 * i + 1 < count ? from[2 * i + 1] : 0;
    pairs[i] = high << 16 | low;
  }
  *to = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

// A matrix that a block reads rows of.
struct Rows {
  const uint16_t* at;
  int64_t stride;
  int inside;
  int k;
};

// Begins to read columns [k, k + kK) of `count` rows; what lies outside is 0.
template <typename Shape, bool kAligned>
__device__ inline void CopyRows(const Rows& rows, int count, int k, uint4* to, int thread) {
  ROLLED for (int i = thread; i < count * kChunks<Shape>; i += kThreads<Shape>) {
    const int row = i / kChunks<Shape>;
    const int chunk = i % kChunks<Shape>;
    const int col = k + chunk * kChunk;
    const int inside = row < rows.inside ? Inside(col, rows.k) : 0;
    const uint16_t* const from = inside > 0 ? rows.at + row * rows.stride + col : rows.at;
    if constexpr (kAligned) {
      CopyAsyncOrZero(ChunkAt<Shape>(to, row, chunk), from, inside * 2);
    } else {
      CopyElements(ChunkAt<Shape>(to, row, chunk), from, inside);
    }
  }
}

// Rows of x that no warp multiplies are left out.
template <typename Shape, bool kGateUp>
__device__ void CopyStage(const Source& source, int k, uint4* stage, int thread) {
  if (k >= source.k) return;
  const int x_rows = (source.rows + Shape::kWarpRows - 1) / Shape::kWarpRows * Shape::kWarpRows;
  const Rows x = {source.x, source.x_stride, source.rows, source.k};
  if (source.x_aligned) {
    CopyRows<Shape, true>(x, x_rows, k, stage, thread);
  } else {
    CopyRows<Shape, false>(x, x_rows, k, stage, thread);
  }
  constexpr int kEach = kGateUp ? Shape::kCols / 2 : Shape::kCols;
  uint4* const weights = stage + Shape::kRows * kChunks<Shape>;
  const Rows weight = {source.weight, source.weight_stride, source.cols, source.k};
  CopyRows<Shape, true>(weight, kEach, k, weights, thread);
  if constexpr (kGateUp) {
    const Rows up = {source.up, source.weight_stride, source.cols, source.k};
    CopyRows<Shape, true>(up, kEach, k, weights + kEach * kChunks<Shape>, thread);
  }
}

// What a warp computes of a tile: kRowTiles x kColTiles mma, of gate_up the first half of the
// columns gate, the second half up for the same outputs.
template <typename Shape>
struct Piece {
  static constexpr int kRowTiles = Shape::kWarpRows / kMmaRows;
  static constexpr int kColTiles = Shape::kWarpCols / kMmaCols;
  int row;
  int across;
  int lane;
  float sums[kRowTiles][kColTiles][4];
};

template <typename Shape>
__device__ Piece<Shape> PieceOf(int thread) {
  const int warp = thread / 32;
  return {
      warp / kWarpsAcross<Shape> * Shape::kWarpRows, warp % kWarpsAcross<Shape>, thread % 32, {}};
}

// The first of a column tile's rows of weights in shared memory.
template <typename Shape, bool kGateUp>
__device__ inline int WeightRow(int across, int tile) {
  if (!kGateUp) return across * Shape::kWarpCols + tile * kMmaCols;
  constexpr int kHalf = Shape::kWarpCols / kMmaCols / 2;
  return tile / kHalf * (Shape::kCols / 2) + across * (Shape::kWarpCols / 2) +
         tile % kHalf * kMmaCols;
}

__device__ inline const __nv_bfloat16* AsRow(const uint4* chunk) {
  return reinterpret_cast<const __nv_bfloat16*>(chunk);
}

// sums += x * weights of one stage, `steps` of 16 of k, in order.
template <typename Shape, bool kGateUp>
__device__ void MultiplyStage(uint4* stage, int steps, Piece<Shape>& piece) {
  using P = Piece<Shape>;
  uint4* const weights = stage + Shape::kRows * kChunks<Shape>;
  const int lane = piece.lane;
  UNROLL for (int step = 0; step < Shape::kK / kMmaK; ++step) {
    if (step >= steps) break;
    const __nv_bfloat16* x_rows[P::kRowTiles];
    UNROLL for (int i = 0; i < P::kRowTiles; ++i) {
      const int row = piece.row + i * kMmaRows + lane % 16;
      x_rows[i] = AsRow(ChunkAt<Shape>(stage, row, step * 2 + lane / 16));
    }
    const __nv_bfloat16* weight_rows[P::kColTiles / 2];
    UNROLL for (int j = 0; j < P::kColTiles / 2; ++j) {
      const int first = WeightRow<Shape, kGateUp>(piece.across, 2 * j);
      const int second = WeightRow<Shape, kGateUp>(piece.across, 2 * j + 1);
      const int row = (lane < 16 ? first : second) + lane % 8;
      weight_rows[j] = AsRow(ChunkAt<Shape>(weights, row, step * 2 + lane / 8 % 2));
    }
    uint32_t x[P::kRowTiles][4];
    uint32_t weight[P::kColTiles / 2][4];
    LoadMatrices(x, x_rows);
    LoadMatrices(weight, weight_rows);
    MmaBf16Tiles(piece.sums, x, weight);
  }
}

// finish(row, col, sums, i): sums[i] of a tile pair's first (gate) and second (up) column tile, or
// of one column tile where they are the same.
template <typename Shape, bool kGateUp, typename Finish>
__device__ void ForOutputs(const Source& source, const Piece<Shape>& piece, const Finish& finish) {
  using P = Piece<Shape>;
  constexpr int kColTiles = kGateUp ? P::kColTiles / 2 : P::kColTiles;
  const int first_col = piece.across * kColTiles * kMmaCols + piece.lane % 4 * 2;
  UNROLL for (int i = 0; i < P::kRowTiles; ++i) {
    UNROLL for (int j = 0; j < kColTiles; ++j) {
      UNROLL for (int e = 0; e < 4; ++e) {
        const int row = piece.row + i * kMmaRows + piece.lane / 4 + e / 2 * 8;
        const int col = first_col + j * kMmaCols + e % 2;
        if (row >= source.rows || col >= source.cols) continue;
        finish(row, col, piece.sums[i][j][e], piece.sums[i][j + (kGateUp ? kColTiles : 0)][e]);
      }
    }
  }
}

template <typename Shape, bool kGateUp, typename Out>
__global__ void __launch_bounds__(kThreads<Shape>, Shape::kBlocksPerSm)
    Bf16Kernel(const uint16_t* x, int64_t x_stride, TiledGroups groups, Out* out,
               int64_t out_stride, bool accumulate) {
  SHARED_ARRAY(uint4, stages, Shape::kStages * kStageChunks<Shape>);
  if (IsPastTheLast(groups, blockIdx.x)) return;
  const TiledGroup group = GroupOf(groups, blockIdx.x);
  const Tile tile = TileOf(group, blockIdx.x - group.first_tile, Shape::kRows,
                           kGateUp ? Shape::kCols / 2 : Shape::kCols);
  const int64_t stride = group.weight_stride;
  const uint16_t* const rows = x + (group.row_begin + tile.row) * x_stride + group.x_col;
  const bool x_aligned = reinterpret_cast<uintptr_t>(rows) % 16 == 0 && x_stride % kChunk == 0;
  const Source source = {rows,
                         x_stride,
                         static_cast<int>(tile.rows),
                         x_aligned,
                         static_cast<const uint16_t*>(group.weight) + tile.col * stride,
                         static_cast<const uint16_t*>(group.up) + (kGateUp ? tile.col * stride : 0),
                         stride,
                         static_cast<int>(tile.cols),
                         static_cast<int>(group.k)};
  Out* const to = out + (group.row_begin + tile.row) * out_stride + group.out_col + tile.col;
  const int thread = static_cast<int>(threadIdx.x);
  Piece<Shape> piece = PieceOf<Shape>(thread);
  // Every step commits a group of copies, be it empty, so that the number waited for is the same.
  for (int stage = 0; stage < Shape::kStages - 1; ++stage) {
    CopyStage<Shape, kGateUp>(source, stage * Shape::kK, &stages[stage * kStageChunks<Shape>],
                              thread);
    CommitCopies();
  }
  int stage = 0;
  int next = Shape::kStages - 1;
  for (int k = 0; k < source.k; k += Shape::kK) {
    WaitForCopies<Shape::kStages - 2>();
    __syncthreads();
    CopyStage<Shape, kGateUp>(source, k + (Shape::kStages - 1) * Shape::kK,
                              &stages[next * kStageChunks<Shape>], thread);
    CommitCopies();
    const int left = source.k - k;
    if (piece.row < source.rows) {
      MultiplyStage<Shape, kGateUp>(&stages[stage * kStageChunks<Shape>],
                                    (left + kMmaK - 1) / kMmaK, piece);
    }
    stage = stage + 1 == Shape::kStages ? 0 : stage + 1;
    next = next + 1 == Shape::kStages ? 0 : next + 1;
  }
  ForOutputs<Shape, kGateUp>(source, piece, [&](int64_t row, int64_t col, float sum, float up) {
    Out* const at = to + row * out_stride + col;
    if constexpr (kGateUp) {
      Store(at, sum / (1.0f + Exp(-sum)) * up);
    } else {
      Store(at, accumulate ? Load(at) + sum : sum);
    }
  });
}

// What the launches below have in common.
struct Operands {
  cudaStream_t stream;
  MatView x;
  TiledGroups groups;
  int64_t tiles;
  MatView out;
  bool accumulate;
};

template <typename Shape, bool kGateUp, typename Out>
cudaError_t LaunchTiles(const Operands& o) {
  const LaunchShape shape{dim3(static_cast<unsigned>(o.tiles)), dim3(kThreads<Shape>)};
  return Launch(kGateUp ? "gate_up_bf16" : "matmul_bf16", Bf16Kernel<Shape, kGateUp, Out>, shape,
                o.stream, static_cast<const uint16_t*>(o.x.data), o.x.stride, o.groups,
                static_cast<Out*>(o.out.data), o.out.stride, o.accumulate);
}

template <bool kGateUp>
cudaError_t LaunchPlan(ProductKernel kernel, const Operands& o) {
  const bool to_f32 = o.out.type == DType::kF32;
  if (kernel == ProductKernel::kBf16Few) {
    return to_f32 ? LaunchTiles<Few, kGateUp, float>(o) : LaunchTiles<Few, kGateUp, uint16_t>(o);
  }
  return to_f32 ? LaunchTiles<Many, kGateUp, float>(o) : LaunchTiles<Many, kGateUp, uint16_t>(o);
}

}  // namespace

cudaError_t MatmulBf16(cudaStream_t stream, MatView x, const TilePlan& plan,
                       const TiledGroup* groups, MatView out, bool accumulate) {
  if (plan.tiles == 0) return cudaSuccess;
  return LaunchPlan<false>(plan.kernel,
                           {stream, x, GroupsOf(plan, groups), plan.tiles, out, accumulate});
}

cudaError_t GateUpBf16(cudaStream_t stream, MatView x, const TilePlan& plan,
                       const TiledGroup* groups, MatView out) {
  if (plan.tiles == 0) return cudaSuccess;
  return LaunchPlan<true>(plan.kernel, {stream, x, GroupsOf(plan, groups), plan.tiles, out, false});
}

}  // namespace ballast::cuda
