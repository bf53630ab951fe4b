// Attention over bf16 caches on tensor cores (attention.h). Every score is one accumulator that
// takes k_dim in steps of 16, in order, and every weighted sum one that takes its partition's keys
// so, by mma.sync m16n8k16; what a row does not see counts 0. Neither the tile nor the rows beside
// a row change that chain. A tile is the 16 rows of an mma: its 4 warps share out keys for scores
// and dimensions for values, which come straight from memory in the layout that an mma takes.
#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/launch.h"

namespace ballast::cuda {
namespace {

constexpr int kThreads = kAttentionThreads;
constexpr int kWarps = kThreads / 32;
constexpr int kRows = 16;
constexpr int kMmaK = 16;
constexpr int kMmaCols = 8;
constexpr int kBlocksPerWarp = kBlocksPerPartition / kWarps;
static_assert(kKvBlockTokens == kMmaK && kKvBlockTokens == 2 * kMmaCols, "a KV block per step");

// A lane's place in fragments: rows `row` and row + 8; columns, or steps of k, `pair` and the next.
struct Lane {
  int warp;
  int row;
  int pair;
};

__device__ inline Lane LaneOf() {
  const int thread = static_cast<int>(threadIdx.x);
  return {thread / 32, thread % 32 / 4, thread % 4 * 2};
}

__device__ void LoadQueries(const AttentionCall& call, const Tile& tile, uint16_t* q) {
  const int stride = call.bf16_q_stride;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * stride; i += kThreads) {
    const int row = i / stride;
    const int d = i % stride;
    const Place place = PlaceOf(call, tile, row < tile.rows ? row : tile.rows - 1);
    const uint16_t* const from = static_cast<const uint16_t*>(call.q.data) +
                                 place.row * call.q.row_stride + place.head * call.q.head_stride;
    q[i] = d < call.k_dim ? from[d] : uint16_t{0};
  }
}

// Dimensions d and d + 1 (d even) of a token; 0 past the last.
__device__ inline uint32_t KeyPair(const char* block, int token, int d, int k_dim) {
  if (d >= k_dim) return 0;
  return *reinterpret_cast<const uint32_t*>(block + int64_t{d / 2} * kKeyStepBytes + token * 4);
}

// numerators[row][key] = q . k for the KV blocks that hold keys [begin, end).
__device__ void Scores(const AttentionCall& call, const Space& space, const uint16_t* q, int begin,
                       int end) {
  const Lane lane = LaneOf();
  float sums[kBlocksPerWarp][2][4] = {};
  const int thread = static_cast<int>(threadIdx.x) % 32;
  const auto active = [&](int i) {
    const int key = (i * kWarps + lane.warp) * kKvBlockTokens;
    return key < end && key + kKvBlockTokens > begin;
  };
  for (int d = 0; d < call.k_dim; d += kMmaK) {
    uint32_t x[4];
    LoadMatrix(x, reinterpret_cast<const __nv_bfloat16*>(q + thread % 16 * call.bf16_q_stride + d +
                                                         thread / 16 * 8));
    UNROLL for (int i = 0; i < kBlocksPerWarp; ++i) {
      if (!active(i)) continue;
      const char* const block = space.blocks[i * kWarps + lane.warp];
      UNROLL for (int n = 0; n < 2; ++n) {
        const int token = n * kMmaCols + lane.row;
        const uint32_t keys[2] = {KeyPair(block, token, d + lane.pair, call.k_dim),
                                  KeyPair(block, token, d + lane.pair + 8, call.k_dim)};
        MmaBf16(sums[i][n], x, keys);
      }
    }
  }
  UNROLL for (int i = 0; i < kBlocksPerWarp; ++i) {
    if (!active(i)) continue;
    UNROLL for (int n = 0; n < 2; ++n) {
      const int key = (i * kWarps + lane.warp) * kKvBlockTokens + n * kMmaCols + lane.pair;
      float* const to = space.numerators + lane.row * kScoreStride + key;
      StoreVector(to, make_float2(sums[i][n][0], sums[i][n][1]));
      StoreVector(to + 8 * kScoreStride, make_float2(sums[i][n][2], sums[i][n][3]));
    }
  }
  __syncthreads();
}

// Keys `key` and the next as bf16, 0 where the row does not see them.
__device__ inline uint32_t NumeratorPair(const Space& space, int row, int key) {
  const Row& range = space.rows[row];
  const float2 two = LoadVector<float2>(space.numerators + row * kScoreStride + key);
  const bool low = key >= range.begin && key < range.end;
  const bool high = key + 1 >= range.begin && key + 1 < range.end;
  return (high ? __float_as_uint(two.y) & 0xffff0000u : 0) |
         (low ? __float_as_uint(two.x) >> 16 : 0);
}

// Dimension d of keys `key` and the next, 0 outside [begin, end); `block` holds both.
__device__ inline uint32_t ValuePair(const char* block, int key, int d, int begin, int end) {
  const uint2 two =
      LoadVector<uint2>(block + int64_t{d / 2} * kKeyStepBytes + key % kKvBlockTokens * 4);
  const uint32_t low = key >= begin && key < end ? two.x : 0;
  const uint32_t high = key + 1 >= begin && key + 1 < end ? two.y : 0;
  return d % 2 == 0 ? (low & 0xffffu) | high << 16 : low >> 16 | (high & 0xffff0000u);
}

// `pair` with 0 for what is infinite or NaN, which `found` then tells.
__device__ inline uint32_t OnlyFinite(uint32_t pair, bool& found) {
  const bool low = (pair & 0x7f80u) == 0x7f80u;
  const bool high = (pair & 0x7f800000u) == 0x7f800000u;
  found = found || low || high;
  return (low ? 0 : pair & 0xffffu) | (high ? 0 : pair & 0xffff0000u);
}

// Adds what OnlyFinite left out to the rows that see it. No order of such sums matters.
template <int kTiles>
__device__ void AddInfinite(const AttentionCall& call, const Space& space, int64_t offset,
                            int first_tile, int begin, int end, float (&parts)[kTiles][4]) {
  const Lane lane = LaneOf();
  ROLLED for (int key = begin; key < end; ++key) {
    const char* const block = space.blocks[key / kKvBlockTokens] + offset;
    UNROLL for (int j = 0; j < kTiles; ++j) {
      const int d = ((first_tile + j) * kWarps + lane.warp) * kMmaCols + lane.pair;
      const uint32_t pair = KeyPair(block, key % kKvBlockTokens, d, call.v_dim);
      UNROLL for (int i = 0; i < 4; ++i) {
        const Row& row = space.rows[lane.row + i / 2 * 8];
        const float value = __uint_as_float(i % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
        const bool infinite = (__float_as_uint(value) & 0x7f800000u) == 0x7f800000u;
        if (!infinite || key < row.begin || key >= row.end) continue;
        const float x = space.numerators[(lane.row + i / 2 * 8) * kScoreStride + key];
        parts[j][i] = __fmaf_rn(x, value, parts[j][i]);
      }
    }
  }
}

// parts[j] = the weighted sums of keys [begin, end) for the warp's 8 dimensions number
// first_tile + j.
template <int kTiles>
__device__ void WeightedSums(const AttentionCall& call, const Space& space, int first_tile,
                             int begin, int end, float (&parts)[kTiles][4]) {
  const Lane lane = LaneOf();
  const int64_t offset = call.v_in_k ? 0 : call.layout.key_bytes;
  int all_begin = 0;  // of the keys that all rows see
  int all_end = kAttentionPartition;
  for (int row = 0; row < kRows; ++row) {
    all_begin = space.rows[row].begin > all_begin ? space.rows[row].begin : all_begin;
    all_end = space.rows[row].end < all_end ? space.rows[row].end : all_end;
  }
  bool infinite = false;
  ROLLED for (int step = begin / kMmaK * kMmaK; step < end; step += kMmaK) {
    const int key = step + lane.pair;
    const uint32_t x[4] = {
        NumeratorPair(space, lane.row, key), NumeratorPair(space, lane.row + 8, key),
        NumeratorPair(space, lane.row, key + 8), NumeratorPair(space, lane.row + 8, key + 8)};
    // 0 times an infinite value, of a key that only others see, is not 0.
    const bool all = step >= all_begin && step + kMmaK <= all_end;
    const char* const block = space.blocks[step / kMmaK] + offset;
    UNROLL for (int j = 0; j < kTiles; ++j) {
      const int d = ((first_tile + j) * kWarps + lane.warp) * kMmaCols + lane.row;
      uint32_t values[2] = {};
      if (d < call.v_dim) {
        values[0] = ValuePair(block, key, d, begin, end);
        values[1] = ValuePair(block, key + 8, d, begin, end);
      }
      if (!all) {
        values[0] = OnlyFinite(values[0], infinite);
        values[1] = OnlyFinite(values[1], infinite);
      }
      MmaBf16(parts[j], x, values);
    }
  }
  if (__any_sync(kAllLanes, infinite)) {
    AddInfinite(call, space, offset, first_tile, begin, end, parts);
  }
}

// visit(its number of two, the row) for this lane's rows that the tile has.
template <typename Visit>
__device__ inline void ForRows(const Tile& tile, const Visit& visit) {
  const Lane lane = LaneOf();
  UNROLL for (int upper = 0; upper < 2; ++upper) {
    const int row = lane.row + upper * 8;
    if (row < tile.rows) visit(upper, row);
  }
}

// Merges a partition's sums, or leaves them in scratch when split.
template <int kTiles>
__device__ void TakeParts(const AttentionCall& call, const Tile& tile, const Space& space,
                          int first_tile, const float (&parts)[kTiles][4], float (*sums)[4]) {
  const Lane lane = LaneOf();
  ForRows(tile, [&](int upper, int number) {
    const Row& row = space.rows[number];
    if (row.begin == row.end) return;
    float* const record =
        call.splits > 0 ? call.sums + RecordOf(call, tile, number) * call.v_dim : nullptr;
    UNROLL for (int j = 0; j < kTiles; ++j) {
      UNROLL for (int odd = 0; odd < 2; ++odd) {
        const float part = parts[j][upper * 2 + odd];
        float& sum = sums[j][upper * 2 + odd];
        const int d = ((first_tile + j) * kWarps + lane.warp) * kMmaCols + lane.pair + odd;
        if (record == nullptr) {
          sum = row.first ? part : __fmaf_rn(part, row.add, sum * row.keep);
        } else if (d < call.v_dim) {
          record[d] = part;
        }
      }
    }
  });
}

// kTiles: 8 dimensions each, of every warp; kAtOnce of them are summed at once.
template <int kTiles, int kAtOnce>
__global__ void __launch_bounds__(kThreads, kTiles <= 4 ? 3 : 2)
    AttendBf16Kernel(const AttentionCall call) {
  DYNAMIC_SHARED(float, dynamic);
  SHARED_ARRAY(Row, rows, kRows);
  SHARED_ARRAY(const char*, blocks, kBlocksPerPartition);
  Tile tile;
  if (!FindTile(call, tile)) return;
  const Work work = WorkOf(call, tile);
  if (work.partition >= work.end_partition) return;
  const Space space{rows, blocks, dynamic};
  uint16_t* const q = reinterpret_cast<uint16_t*>(dynamic + kRows * kScoreStride);
  LoadQueries(call, tile, q);
  float sums[kTiles][4] = {};
  for (int64_t partition = work.partition; partition < work.end_partition; ++partition) {
    const int begin = work.Begin(partition);
    const int end = work.End(partition);
    BeginPartition<kRows>(call, tile, partition, work.keys.end, space);
    Scores(call, space, q, begin, end);
    Exponentials<uint16_t, kRows>(call, space);
    UNROLL for (int first = 0; first < kTiles; first += kAtOnce) {
      float parts[kAtOnce][4] = {};
      WeightedSums(call, space, first, begin, end, parts);
      TakeParts(call, tile, space, first, parts, sums + first);
    }
    if (call.splits > 0) LeaveEnds(call, tile, space);
    __syncthreads();  // the next partition takes the place of this one
  }
  if (call.splits > 0) return;
  const Lane lane = LaneOf();
  ForRows(tile, [&](int upper, int row) {
    const Place place = PlaceOf(call, tile, row);
    const RowEnd end = EndOf(call, place.head, rows[row].max, rows[row].sum);
    UNROLL for (int j = 0; j < kTiles; ++j) {
      UNROLL for (int odd = 0; odd < 2; ++odd) {
        const int d = (j * kWarps + lane.warp) * kMmaCols + lane.pair + odd;
        if (d < call.v_dim) WriteOut(call, place.row, place.head, d, end, sums[j][upper * 2 + odd]);
      }
    }
  });
}

}  // namespace

AttentionKernel Bf16Kernel(int64_t v_dim) {
  constexpr int kAcross = kWarps * kMmaCols;
  return v_dim <= 4 * kAcross   ? AttendBf16Kernel<4, 4>
         : v_dim <= 8 * kAcross ? AttendBf16Kernel<8, 8>
                                : AttendBf16Kernel<16, 8>;
}

}  // namespace ballast::cuda
