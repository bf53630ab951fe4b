#include "kernels/cuda/attention.h"

#include <algorithm>

#include "kernels/cuda/attention_sums.h"
#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/launch.h"

namespace ballast::cuda {
namespace {

constexpr int kThreads = kAttentionThreads;
constexpr int kBlocksPerSm = 3;  // leaves 168 registers for a thread

template <int kRows, typename T>
__device__ void LoadQueries(const AttentionCall& call, const Tile& tile, float* q) {
  for (int i = static_cast<int>(threadIdx.x); i < kRows * call.k_dim; i += kThreads) {
    const int row = i / call.k_dim;
    const int d = i % call.k_dim;
    const Place place = PlaceOf(call, tile, row < tile.rows ? row : tile.rows - 1);
    q[d * kRows + row] = Load(static_cast<const T*>(call.q.data) + place.row * call.q.row_stride +
                              place.head * call.q.head_stride + d);
  }
}

template <int kRows>
constexpr int kItemRows = kRows < 8 ? kRows : 8;

// visit(first row, dimension) for each item of this thread: two dimensions of kItemRows rows.
template <int kRows, typename Visit>
__device__ void ForItems(const AttentionCall& call, const Tile& tile, const Visit& visit) {
  const int pairs = (call.v_dim + 1) / 2;
  for (int item = static_cast<int>(threadIdx.x); item < kRows / kItemRows<kRows> * pairs;
       item += kThreads) {
    const int row = item / pairs * kItemRows<kRows>;
    if (row < tile.rows) visit(row, item % pairs * 2);
  }
}

// Adds this partition's weighted sums to the tile's; when split, leaves them in scratch.
template <typename T, bool kValuesInKeys, int kRows>
__device__ void WeightedSums(const AttentionCall& call, const Tile& tile, const Space& space,
                             float* sums) {
  ForItems<kRows>(call, tile, [&](int first, int d) {
    float parts[kItemRows<kRows>][2] = {};
    AddValues<T, kValuesInKeys>(call, space, space.rows + first,
                                space.numerators + first * kScoreStride, d, parts);
    for (int i = 0; i < kItemRows<kRows> && first + i < tile.rows; ++i) {
      const Row& row = space.rows[first + i];
      if (row.begin == row.end) continue;
      float* const to = (call.splits > 0 ? call.sums + RecordOf(call, tile, first + i) * call.v_dim
                                         : sums + (first + i) * call.v_dim) +
                        d;
      for (int odd = 0; odd < 2 && d + odd < call.v_dim; ++odd) {
        const float part = parts[i][odd];
        to[odd] = row.first ? part : __fmaf_rn(part, row.add, to[odd] * row.keep);
      }
    }
  });
}

template <int kRows>
__device__ void WriteTile(const AttentionCall& call, const Tile& tile, const Space& space,
                          float* sums) {
  ForItems<kRows>(call, tile, [&](int first, int d) {
    for (int i = 0; i < kItemRows<kRows> && first + i < tile.rows; ++i) {
      const Place place = PlaceOf(call, tile, first + i);
      const Row& row = space.rows[first + i];
      const RowEnd end = EndOf(call, place.head, row.max, row.sum);
      for (int odd = 0; odd < 2 && d + odd < call.v_dim; ++odd) {
        WriteOut(call, place.row, place.head, d + odd, end,
                 sums[(first + i) * call.v_dim + d + odd]);
      }
    }
  });
}

template <typename T, bool kValuesInKeys, int kRows>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm) AttendKernel(const AttentionCall call) {
  DYNAMIC_SHARED(float, dynamic);
  SHARED_ARRAY(Row, rows, kRows);
  SHARED_ARRAY(const char*, blocks, kBlocksPerPartition);
  Tile tile;
  if (!FindTile(call, tile)) return;
  const Work work = WorkOf(call, tile);
  if (work.partition >= work.end_partition) return;
  const Space space{rows, blocks, dynamic};
  float* const q = dynamic + kRows * kScoreStride;
  float* const sums = q + kRows * call.k_dim;  // [kRows, v_dim], unless split
  LoadQueries<kRows, T>(call, tile, q);
  for (int64_t partition = work.partition; partition < work.end_partition; ++partition) {
    BeginPartition<kRows>(call, tile, partition, work.keys.end, space);
    Scores<T, kRows>(call, space, q, work.Begin(partition), work.End(partition));
    Exponentials<T, kRows>(call, space);
    WeightedSums<T, kValuesInKeys, kRows>(call, tile, space, sums);
    if (call.splits > 0) LeaveEnds(call, tile, space);
    __syncthreads();  // the next partition takes the place of this one
  }
  if (call.splits == 0) WriteTile<kRows>(call, tile, space, sums);
}

using Kernel = AttentionKernel;

template <typename T, bool kValuesInKeys>
Kernel ExactKernel(int tile_rows) {
  return tile_rows == 8 ? AttendKernel<T, kValuesInKeys, 8> : AttendKernel<T, kValuesInKeys, 1>;
}

template <bool kValuesInKeys>
Kernel KernelOf(DType type, int tile_rows) {
  if (type == DType::kBF16) return ExactKernel<uint16_t, kValuesInKeys>(tile_rows);
  return tile_rows == 16 ? AttendKernel<float, kValuesInKeys, 16>
                         : ExactKernel<float, kValuesInKeys>(tile_rows);
}

Kernel KernelOf(const KvCache& cache, const AttentionPlan& plan) {
  if (plan.tensor_cores) return Bf16Kernel(cache.v_dim);
  return cache.v_in_k ? KernelOf<true>(cache.type, plan.tile_rows)
                      : KernelOf<false>(cache.type, plan.tile_rows);
}

AttentionShape ShapeOf(const HeadsView& q, const AttentionBatch& batch, int32_t window) {
  return {q.rows, q.heads, batch.num_spans, batch.max_keys, window};
}

HeadRows RowsOf(const HeadsView& view) { return {view.data, view.row_stride, view.head_stride}; }

}  // namespace

size_t AttentionScratchBytes(const KvCache& cache, HeadsView q, const AttentionBatch& batch,
                             int32_t window) {
  return PlanAttention(cache, ShapeOf(q, batch, window)).scratch_bytes;
}

cudaError_t Attention(cudaStream_t stream, const KvCache& cache, HeadsView q,
                      const AttentionBatch& batch, float scale, int32_t window, const float* sinks,
                      HeadsView out, void* scratch) {
  return Attention(stream, PlanAttention(cache, ShapeOf(q, batch, window)), cache, q, batch, scale,
                   window, sinks, out, scratch);
}

cudaError_t Attention(cudaStream_t stream, const AttentionPlan& plan, const KvCache& cache,
                      HeadsView q, const AttentionBatch& batch, float scale, int32_t window,
                      const float* sinks, HeadsView out, void* scratch) {
  if (q.rows == 0) return cudaSuccess;
  if (plan.tile_rows == 0) return cudaErrorInvalidValue;
  AttentionCall call;
  call.cache = static_cast<const char*>(cache.data);
  call.layout = KvLayoutOf(cache);
  call.k_dim = static_cast<int>(cache.k_dim);
  call.v_dim = static_cast<int>(cache.v_dim);
  call.q = RowsOf(q);
  call.bf16_q_stride = static_cast<int>(Bf16QueryStride(cache.k_dim));
  call.out = RowsOf(out);
  call.out_bf16 = out.type == DType::kBF16;
  call.v_in_k = cache.v_in_k;
  call.heads = q.heads;
  call.heads_per_kv = static_cast<int>(q.heads / cache.kv_heads);
  call.spans = batch.spans;
  call.num_spans = batch.num_spans;
  call.one_row_each = batch.num_spans == q.rows;
  call.block_tables = batch.block_tables;
  call.scale = scale;
  call.window = window;
  call.sinks = sinks;
  call.tile_rows = plan.tile_rows;
  call.splits = plan.splits;
  call.first_split = 0;
  const int64_t records = q.rows * q.heads * (plan.splits + 1);
  call.ends = static_cast<float2*>(scratch);
  call.sums = reinterpret_cast<float*>(call.ends + (plan.splits > 0 ? records : 0));
  const Kernel kernel = KernelOf(cache, plan);
  const LaunchShape shape{
      dim3(static_cast<unsigned>(plan.tiles), static_cast<unsigned>(cache.kv_heads),
           static_cast<unsigned>(std::max(plan.splits, 1))),
      dim3(kThreads), plan.shared_bytes};
  if (plan.splits == 0) return Launch("attention", kernel, shape, stream, call);
  for (; call.first_split < plan.partitions; call.first_split += plan.splits) {
    cudaError_t error = Launch("attention", kernel, shape, stream, call);
    if (error == cudaSuccess) error = LaunchMerge(stream, call, q.rows);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace ballast::cuda
