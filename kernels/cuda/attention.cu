#include "kernels/cuda/attention.h"

#include <algorithm>

#include "kernels/cuda/attention_call.h"
#include "kernels/cuda/attention_sums.h"
#include "kernels/cuda/launch.h"

namespace ballast::cuda {
namespace {

constexpr int kThreads = kAttentionThreads;
constexpr int kBlocksPerSm = 3;  // leaves 168 registers for a thread

// Rows [first, first + rows) of a span, all of one kv head.
struct Tile {
  const AttentionSpan* span;
  int64_t first;
  int rows;
};

// The tile numbered blockIdx.x, the last of the batch first: it has the most keys. False: none.
__device__ bool FindTile(const AttentionCall& call, Tile& tile) {
  const int64_t rows_per_query = call.heads_per_kv;
  const int64_t number = gridDim.x - 1 - blockIdx.x;
  int64_t s;
  int64_t begin;
  if (call.one_row_each) {
    const int64_t tiles = (rows_per_query + call.tile_rows - 1) / call.tile_rows;
    s = number / tiles;
    begin = s * tiles;
  } else {
    // Span s has room for its tiles from here on: spans are in the order of their rows.
    const auto first_tile = [&](const AttentionSpan& span, int64_t before) {
      return span.row_begin * rows_per_query / call.tile_rows + before;
    };
    s = FindSpan(call, [&](const AttentionSpan& span, int64_t before) {
      const int64_t at = number - first_tile(span, before);
      return at >= 0 && at * call.tile_rows < span.rows * rows_per_query;
    });
    if (s < 0) return false;
    begin = first_tile(call.spans[s], s);
  }
  tile.span = call.spans + s;
  tile.first = (number - begin) * call.tile_rows;
  const int64_t left = tile.span->rows * rows_per_query - tile.first;
  tile.rows = static_cast<int>(left < call.tile_rows ? left : call.tile_rows);
  return true;
}

// The row of q and out, and the head, of row `row` of a tile.
struct Place {
  int64_t row;
  int64_t head;
};
__device__ Place PlaceOf(const AttentionCall& call, const Tile& tile, int row) {
  const int64_t i = tile.first + row;
  return {tile.span->row_begin + i / call.heads_per_kv,
          int64_t{blockIdx.y} * call.heads_per_kv + i % call.heads_per_kv};
}

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

// Which keys of a partition each row sees, and where they lie.
template <int kRows>
__device__ void BeginPartition(const AttentionCall& call, const Tile& tile, int64_t partition,
                               int64_t tile_end, const Space& space) {
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t origin = partition * kAttentionPartition;
  if (thread < kRows) {
    const int row = thread < tile.rows ? thread : tile.rows - 1;
    const KeyRange keys = KeysOf(call, *tile.span, tile.first + row);
    const int64_t begin = keys.begin > origin ? keys.begin - origin : 0;
    const int64_t end =
        keys.end < origin + kAttentionPartition ? keys.end - origin : kAttentionPartition;
    Row& to = space.rows[thread];
    to.begin = begin < end ? static_cast<int>(begin) : 0;
    to.end = begin < end ? static_cast<int>(end) : 0;
    to.first = keys.begin >= origin;
  }
  const int64_t block = partition * kBlocksPerPartition + thread;
  if (thread < kBlocksPerPartition && block * kKvBlockTokens < tile_end) {
    const int32_t number = call.block_tables[tile.span->table_begin + block];
    space.blocks[thread] =
        call.cache + number * call.layout.block_bytes + blockIdx.y * call.layout.head_bytes;
  }
  __syncthreads();
}

// Where a row's part of this partition goes, when split.
__device__ int64_t RecordOf(const AttentionCall& call, const Tile& tile, int row) {
  const Place place = PlaceOf(call, tile, row);
  return (place.row * call.heads + place.head) * (call.splits + 1) + blockIdx.z;
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
__device__ void WeightedSums(const AttentionCall& call, const Tile& tile, const Space& space) {
  ForItems<kRows>(call, tile, [&](int first, int d) {
    float parts[kItemRows<kRows>][2] = {};
    AddValues<T, kValuesInKeys>(call, space, space.rows + first,
                                space.numerators + first * kAttentionPartition, d, parts);
    for (int i = 0; i < kItemRows<kRows> && first + i < tile.rows; ++i) {
      const Row& row = space.rows[first + i];
      if (row.begin == row.end) continue;
      float* const to = (call.splits > 0 ? call.sums + RecordOf(call, tile, first + i) * call.v_dim
                                         : space.sums + (first + i) * call.v_dim) +
                        d;
      for (int odd = 0; odd < 2 && d + odd < call.v_dim; ++odd) {
        const float part = parts[i][odd];
        to[odd] = row.first ? part : __fmaf_rn(part, row.add, to[odd] * row.keep);
      }
    }
  });
}

template <int kRows>
__device__ void LeaveEnds(const AttentionCall& call, const Tile& tile, const Space& space) {
  const int row = static_cast<int>(threadIdx.x);
  if (row >= tile.rows || space.rows[row].begin == space.rows[row].end) return;
  call.ends[RecordOf(call, tile, row)] = make_float2(space.rows[row].max, space.rows[row].sum);
}

template <int kRows>
__device__ void WriteTile(const AttentionCall& call, const Tile& tile, const Space& space) {
  ForItems<kRows>(call, tile, [&](int first, int d) {
    for (int i = 0; i < kItemRows<kRows> && first + i < tile.rows; ++i) {
      const Place place = PlaceOf(call, tile, first + i);
      const Row& row = space.rows[first + i];
      const RowEnd end = EndOf(call, place.head, row.max, row.sum);
      for (int odd = 0; odd < 2 && d + odd < call.v_dim; ++odd) {
        WriteOut(call, place.row, place.head, d + odd, end,
                 space.sums[(first + i) * call.v_dim + d + odd]);
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
  float* const q = dynamic + kRows * kAttentionPartition;
  const Space space{rows, blocks, q, dynamic, q + kRows * call.k_dim};
  const int64_t tile_begin = KeysOf(call, *tile.span, tile.first).begin;
  const int64_t tile_end = KeysOf(call, *tile.span, tile.first + tile.rows - 1).end;
  int64_t partition = tile_begin / kAttentionPartition;
  int64_t end_partition = (tile_end - 1) / kAttentionPartition + 1;
  if (call.splits > 0) {
    partition += call.first_split + blockIdx.z;
    if (partition >= end_partition) return;
    end_partition = partition + 1;
  }
  LoadQueries<kRows, T>(call, tile, q);
  for (; partition < end_partition; ++partition) {
    const int64_t origin = partition * kAttentionPartition;
    BeginPartition<kRows>(call, tile, partition, tile_end, space);
    if (call.splits > 0 && threadIdx.x < kRows) rows[threadIdx.x].first = true;
    Scores<T, kRows>(
        call, space, static_cast<int>(tile_begin > origin ? tile_begin - origin : 0),
        static_cast<int>(tile_end - origin < kAttentionPartition ? tile_end - origin
                                                                 : kAttentionPartition));
    Exponentials<T, kRows>(call, space);
    WeightedSums<T, kValuesInKeys, kRows>(call, tile, space);
    if (call.splits > 0) LeaveEnds<kRows>(call, tile, space);
    __syncthreads();  // the next partition takes the place of this one
  }
  if (call.splits == 0) WriteTile<kRows>(call, tile, space);
}

using Kernel = void (*)(AttentionCall);

template <typename T, bool kValuesInKeys>
Kernel KernelOf(int tile_rows) {
  return tile_rows == 16  ? AttendKernel<T, kValuesInKeys, 16>
         : tile_rows == 8 ? AttendKernel<T, kValuesInKeys, 8>
                          : AttendKernel<T, kValuesInKeys, 1>;
}

Kernel KernelOf(const KvCache& cache, int tile_rows) {
  if (cache.type == DType::kF32) {
    return cache.v_in_k ? KernelOf<float, true>(tile_rows) : KernelOf<float, false>(tile_rows);
  }
  return cache.v_in_k ? KernelOf<uint16_t, true>(tile_rows) : KernelOf<uint16_t, false>(tile_rows);
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
  call.out = RowsOf(out);
  call.out_bf16 = out.type == DType::kBF16;
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
  const Kernel kernel = KernelOf(cache, plan.tile_rows);
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
