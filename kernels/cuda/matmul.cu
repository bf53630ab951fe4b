#include "kernels/cuda/matmul.h"

#include "kernels/cuda/arithmetic.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul_bf16.h"
#include "kernels/cuda/tiled_groups.h"

namespace ballast::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kBlocksPerSm = 4;  // leaves 128 registers for a thread
constexpr int kTileRows = static_cast<int>(kExactTile.rows);
constexpr int kTileCols = static_cast<int>(kExactTile.cols);
constexpr int kTileK = 32;
constexpr int kPiece = 4;                        // rows and columns of a thread's outputs
constexpr int kThreadCols = kTileCols / kPiece;  // threads side by side
constexpr int kRowSpan = 8;                      // elements of k that neighbouring lanes read
constexpr int kRowSpans = kTileK / kRowSpan;
static_assert(kThreads == kThreadCols * (kTileRows / kPiece), "a thread per piece");

// A tile's share of x or of weights, with k first. kPiece more than it holds: lanes then write to
// different banks, and every piece is aligned.
template <int kCount>
using Part = float[kTileK][kCount + kPiece];

template <int kCount>
constexpr int kPartVectors = kTileK*(kCount + kPiece) / 4;  // float4

// kTileK columns of kCount rows from `from`, as float; what lies outside is 0. Neighbouring lanes
// take 4 rows x kRowSpan elements of k.
template <int kCount, typename T>
__device__ void LoadPart(const T* from, int64_t stride, int64_t rows, int64_t cols, int thread,
                         Part<kCount>& to) {
  for (int i = thread; i < kCount * kTileK; i += kThreads) {
    const int row = i / 32 / kRowSpans * 4 + i % 32 / kRowSpan;
    const int col = i / 32 % kRowSpans * kRowSpan + i % kRowSpan;
    to[col][row] = row < rows && col < cols ? Load(from + row * stride + col) : 0.0f;
  }
}

struct Sums {
  float at[kPiece][kPiece] = {};
};

// What a thread computes of a tile.
struct Piece {
  int row;
  int col;
};
__device__ inline Piece PieceOf(int thread) {
  return {thread / kThreadCols * kPiece, thread % kThreadCols * kPiece};
}

// sums += x tile rows * weight tile columns, `steps` of k, in order.
__device__ inline void MultiplyTiles(const Part<kTileRows>& x, const Part<kTileCols>& weight,
                                     int steps, Piece piece, Sums& sums) {
  for (int k = 0; k < steps; ++k) {
    const float4 a = LoadVector<float4>(&x[k][piece.row]);
    const float4 b = LoadVector<float4>(&weight[k][piece.col]);
    const float xs[kPiece] = {a.x, a.y, a.z, a.w};
    const float weights[kPiece] = {b.x, b.y, b.z, b.w};
    for (int i = 0; i < kPiece; ++i) {
      for (int j = 0; j < kPiece; ++j) {
        sums.at[i][j] = __fmaf_rn(xs[i], weights[j], sums.at[i][j]);
      }
    }
  }
}

__device__ inline int Steps(int64_t left) {
  return static_cast<int>(left < kTileK ? left : kTileK);
}

// finish(row, col, i, j) for this thread's outputs that lie inside, counted from the tile's begin.
template <typename Finish>
__device__ void ForOutputs(const Tile& tile, Piece piece, const Finish& finish) {
  for (int i = 0; i < kPiece; ++i) {
    for (int j = 0; j < kPiece; ++j) {
      if (piece.row + i < tile.rows && piece.col + j < tile.cols) {
        finish(piece.row + i, piece.col + j, i, j);
      }
    }
  }
}

template <typename Weight, typename Out>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    MatmulKernel(const float* x, int64_t x_stride, TiledGroups groups, Out* out, int64_t out_stride,
                 bool accumulate) {
  SHARED_ARRAY(float4, x_memory, 2 * kPartVectors<kTileRows>);
  SHARED_ARRAY(float4, weight_memory, 2 * kPartVectors<kTileCols>);
  auto* const x_parts = reinterpret_cast<Part<kTileRows>*>(&x_memory);
  auto* const weight_parts = reinterpret_cast<Part<kTileCols>*>(&weight_memory);
  if (IsPastTheLast(groups, blockIdx.x)) return;
  const TiledGroup group = GroupOf(groups, blockIdx.x);
  const Tile tile = TileOf(group, blockIdx.x - group.first_tile, kTileRows, kTileCols);
  const int64_t stride = group.weight_stride;
  const float* const rows = x + (group.row_begin + tile.row) * x_stride + group.x_col;
  const Weight* const weight = static_cast<const Weight*>(group.weight) + tile.col * stride;
  const int thread = static_cast<int>(threadIdx.x);
  const Piece piece = PieceOf(thread);
  Sums sums;
  int buffer = 0;
  for (int64_t k = 0; k < group.k; k += kTileK) {
    const int64_t left = group.k - k;
    LoadPart<kTileRows>(rows + k, x_stride, tile.rows, left, thread, x_parts[buffer]);
    LoadPart<kTileCols>(weight + k, stride, tile.cols, left, thread, weight_parts[buffer]);
    __syncthreads();  // one is enough: who writes a buffer has waited for those who read it
    if (piece.row < tile.rows) {
      MultiplyTiles(x_parts[buffer], weight_parts[buffer], Steps(left), piece, sums);
    }
    buffer ^= 1;
  }
  Out* const to = out + (group.row_begin + tile.row) * out_stride + group.out_col + tile.col;
  ForOutputs(tile, piece, [&](int64_t row, int64_t col, int i, int j) {
    Out* const at = to + row * out_stride + col;
    Store(at, accumulate ? Load(at) + sums.at[i][j] : sums.at[i][j]);
  });
}

template <typename Weight, typename Out>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    GateUpKernel(const float* x, int64_t x_stride, TiledGroups groups, Out* out,
                 int64_t out_stride) {
  SHARED_ARRAY(float4, x_memory, 2 * kPartVectors<kTileRows>);
  SHARED_ARRAY(float4, gate_memory, 2 * kPartVectors<kTileCols>);
  SHARED_ARRAY(float4, up_memory, 2 * kPartVectors<kTileCols>);
  auto* const x_parts = reinterpret_cast<Part<kTileRows>*>(&x_memory);
  auto* const gate_parts = reinterpret_cast<Part<kTileCols>*>(&gate_memory);
  auto* const up_parts = reinterpret_cast<Part<kTileCols>*>(&up_memory);
  if (IsPastTheLast(groups, blockIdx.x)) return;
  const TiledGroup group = GroupOf(groups, blockIdx.x);
  const Tile tile = TileOf(group, blockIdx.x - group.first_tile, kTileRows, kTileCols);
  const int64_t stride = group.weight_stride;
  const float* const rows = x + (group.row_begin + tile.row) * x_stride;
  const Weight* const gate = static_cast<const Weight*>(group.weight) + tile.col * stride;
  const Weight* const up = static_cast<const Weight*>(group.up) + tile.col * stride;
  const int thread = static_cast<int>(threadIdx.x);
  const Piece piece = PieceOf(thread);
  Sums gates;
  Sums ups;
  int buffer = 0;
  for (int64_t k = 0; k < group.k; k += kTileK) {
    const int64_t left = group.k - k;
    LoadPart<kTileRows>(rows + k, x_stride, tile.rows, left, thread, x_parts[buffer]);
    LoadPart<kTileCols>(gate + k, stride, tile.cols, left, thread, gate_parts[buffer]);
    LoadPart<kTileCols>(up + k, stride, tile.cols, left, thread, up_parts[buffer]);
    __syncthreads();
    if (piece.row < tile.rows) {
      const int steps = Steps(left);
      MultiplyTiles(x_parts[buffer], gate_parts[buffer], steps, piece, gates);
      MultiplyTiles(x_parts[buffer], up_parts[buffer], steps, piece, ups);
    }
    buffer ^= 1;
  }
  Out* const to = out + (group.row_begin + tile.row) * out_stride + tile.col;
  ForOutputs(tile, piece, [&](int64_t row, int64_t col, int i, int j) {
    const float silu = gates.at[i][j] / (1.0f + Exp(-gates.at[i][j]));
    Store(to + row * out_stride + col, silu * ups.at[i][j]);
  });
}

// What the launches below have in common.
struct Operands {
  cudaStream_t stream;
  MatView x;
  TiledGroups groups;
  LaunchShape shape;
  MatView out;
  bool accumulate;
};

template <typename Weight, typename Out>
cudaError_t LaunchMatmul(const Operands& o) {
  return Launch("matmul", MatmulKernel<Weight, Out>, o.shape, o.stream,
                static_cast<const float*>(o.x.data), o.x.stride, o.groups,
                static_cast<Out*>(o.out.data), o.out.stride, o.accumulate);
}

template <typename Weight, typename Out>
cudaError_t LaunchGateUp(const Operands& o) {
  return Launch("gate_up", GateUpKernel<Weight, Out>, o.shape, o.stream,
                static_cast<const float*>(o.x.data), o.x.stride, o.groups,
                static_cast<Out*>(o.out.data), o.out.stride);
}

LaunchShape BlockPerTile(int64_t tiles) {
  return {dim3(static_cast<unsigned>(tiles)), dim3(kThreads)};
}

}  // namespace

cudaError_t Matmul(cudaStream_t stream, MatView x, const TilePlan& plan, const TiledGroup* groups,
                   MatView out, bool accumulate) {
  if (plan.tiles == 0) return cudaSuccess;
  if (plan.kernel != ProductKernel::kExact) {
    return MatmulBf16(stream, x, plan, groups, out, accumulate);
  }
  const Operands o{stream, x, GroupsOf(plan, groups), BlockPerTile(plan.tiles), out, accumulate};
  if (plan.weight_type == DType::kF32) {
    return out.type == DType::kF32 ? LaunchMatmul<float, float>(o)
                                   : LaunchMatmul<float, uint16_t>(o);
  }
  return out.type == DType::kF32 ? LaunchMatmul<uint16_t, float>(o)
                                 : LaunchMatmul<uint16_t, uint16_t>(o);
}

cudaError_t GateUp(cudaStream_t stream, MatView x, const TilePlan& plan, const TiledGroup* groups,
                   MatView out) {
  if (plan.tiles == 0) return cudaSuccess;
  if (plan.kernel != ProductKernel::kExact) return GateUpBf16(stream, x, plan, groups, out);
  const Operands o{stream, x, GroupsOf(plan, groups), BlockPerTile(plan.tiles), out, false};
  if (plan.weight_type == DType::kF32) {
    return out.type == DType::kF32 ? LaunchGateUp<float, float>(o)
                                   : LaunchGateUp<float, uint16_t>(o);
  }
  return out.type == DType::kF32 ? LaunchGateUp<uint16_t, float>(o)
                                 : LaunchGateUp<uint16_t, uint16_t>(o);
}

}  // namespace ballast::cuda
