// A block's tile of rows, partition by partition, for attention.cu and attention_bf16.cu: which
// rows and keys it has, where what it makes goes, and the exponentials between the products. All
// threads of the block call what ends with a barrier, and FindTile.
#pragma once

#include <cstdint>

#include "kernels/cuda/attention_call.h"
#include "kernels/cuda/attention_plan.h"

namespace ballast::cuda {

constexpr int kBlocksPerPartition = kAttentionPartition / kKvBlockTokens;
// Rows [first, first + rows) of a span, all of one kv head.
struct Tile {
  const AttentionSpan* span;
  int64_t first;
  int rows;
};

// The tile numbered blockIdx.x, the last of the batch first: it has the most keys. False: none.
__device__ inline bool FindTile(const AttentionCall& call, Tile& tile) {
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
__device__ inline Place PlaceOf(const AttentionCall& call, const Tile& tile, int row) {
  const int64_t i = tile.first + row;
  return {tile.span->row_begin + i / call.heads_per_kv,
          int64_t{blockIdx.y} * call.heads_per_kv + i % call.heads_per_kv};
}

// One row of a tile in one partition.
struct Row {
  int begin;  // of its keys, from the partition's begin; equal to `end`: it has none here
  int end;
  bool first;  // its first partition
  float max;
  float sum;
  float keep;  // what sums so far, and this partition's, are scaled by
  float add;
};

// A block's shared memory, less what its kernel has of its own. Rows that the tile lacks are as its
// last, and are not written out.
struct Space {
  Row* rows;            // [tile_rows]
  const char** blocks;  // [kBlocksPerPartition]: the head's part of each KV block
  float* numerators;    // [tile_rows, kScoreStride]: scores at first
};

// Keys that any row of the tile sees, by position, and the partitions that this block takes.
struct Work {
  KeyRange keys;
  int64_t partition;
  int64_t end_partition;

  // Of the keys, those of one partition, from its begin.
  __device__ int Begin(int64_t of) const {
    const int64_t origin = of * kAttentionPartition;
    return static_cast<int>(keys.begin > origin ? keys.begin - origin : 0);
  }
  __device__ int End(int64_t of) const {
    const int64_t left = keys.end - of * kAttentionPartition;
    return static_cast<int>(left < kAttentionPartition ? left : kAttentionPartition);
  }
};

__device__ inline Work WorkOf(const AttentionCall& call, const Tile& tile) {
  Work work;
  work.keys.begin = KeysOf(call, *tile.span, tile.first).begin;
  work.keys.end = KeysOf(call, *tile.span, tile.first + tile.rows - 1).end;
  work.partition = work.keys.begin / kAttentionPartition;
  work.end_partition = (work.keys.end - 1) / kAttentionPartition + 1;
  if (call.splits > 0) {
    work.partition += call.first_split + blockIdx.z;
    if (work.partition < work.end_partition) work.end_partition = work.partition + 1;
  }
  return work;
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
    to.first = call.splits > 0 || keys.begin >= origin;
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
__device__ inline int64_t RecordOf(const AttentionCall& call, const Tile& tile, int row) {
  const Place place = PlaceOf(call, tile, row);
  return (place.row * call.heads + place.head) * (call.splits + 1) + blockIdx.z;
}

__device__ inline void LeaveEnds(const AttentionCall& call, const Tile& tile, const Space& space) {
  const int row = static_cast<int>(threadIdx.x);
  if (row >= tile.rows || space.rows[row].begin == space.rows[row].end) return;
  call.ends[RecordOf(call, tile, row)] = make_float2(space.rows[row].max, space.rows[row].sum);
}

// Folds a partition's max and sum into a row's.
__device__ inline void Fold(float max, float sum, Row& row) {
  if (row.first) {
    row.max = max;
    row.sum = sum;
    return;
  }
  const float top = max > row.max ? max : row.max;
  row.keep = Exp(row.max - top);
  row.add = Exp(max - top);
  row.max = top;
  row.sum = __fmaf_rn(sum, row.add, row.sum * row.keep);
}

__device__ inline float Rounded(float x, const float*) { return x; }
__device__ inline float Rounded(float x, const uint16_t*) { return FromBf16(ToBf16(x)); }

// Scores become numerators, 16 lanes to a row: each takes the keys of its interleaved sum.
template <typename T, int kRows>
__device__ void Exponentials(const AttentionCall& call, const Space& space) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % kSumLanes;
  const int of_warp = static_cast<int>(threadIdx.x) / kSumLanes % 2;
  for (int pair = warp * 2; pair < kRows; pair += kAttentionThreads / kSumLanes) {
    const bool mine = pair + of_warp < kRows;
    const int number = mine ? pair + of_warp : 0;
    Row& row = space.rows[number];
    float* const scores = space.numerators + number * kScoreStride;
    const int end = mine ? row.end : 0;
    const int begin = mine ? row.begin : 0;
    const int from = begin / kSumLanes * kSumLanes + lane;
    float top = __uint_as_float(0xff800000u);  // minus infinity
    for (int i = from; i < end; i += kSumLanes) {
      const float score = call.scale * scores[i];
      if (i >= begin && score > top) top = score;
    }
    for (int flip = kSumLanes / 2; flip >= 1; flip /= 2) {
      const float other = __shfl_xor_sync(kAllLanes, top, flip);
      top = other > top ? other : top;
    }
    float sum = 0.0f;
    for (int i = from; i < end; i += kSumLanes) {
      if (i < begin) continue;
      const float e = Exp(call.scale * scores[i] - top);
      sum += e;
      scores[i] = Rounded(e, static_cast<const T*>(nullptr));
    }
    sum = SumOfLanes(sum);
    if (lane == 0 && begin < end) Fold(top, sum, row);
  }
  __syncthreads();
}

}  // namespace ballast::cuda
