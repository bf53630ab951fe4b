// How a call of attention is cut into blocks of threads. Pure host code. No plan changes a bit but
// by whether tensor cores are used, and that PlanAttention decides by the cache alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/device.h"

namespace ballast::cuda {

inline constexpr int kMaxAttentionSplits = 128;
// Values of a head that the tensor cores' kernel has registers for.
inline constexpr int kMaxTensorCoreValues = 512;

// How the kernels lay out shared memory, in elements: from one row's scores to the next, and from
// one row of bf16 queries to the next. Both turn rows against each other over its banks.
inline constexpr int kScoreStride = kAttentionPartition + 8;
constexpr int64_t Bf16QueryStride(int64_t k_dim) { return (k_dim + 15) / 16 * 16 + 8; }

// What of a call decides how it runs; the rest is in device memory.
struct AttentionShape {
  int64_t rows = 0;  // of q
  int64_t heads = 0;
  int64_t num_spans = 0;
  int32_t max_keys = 0;  // as in AttentionBatch
  int32_t window = 0;
};

struct AttentionPlan {
  int tile_rows = 0;  // 16, 8 or 1
  bool tensor_cores = false;
  int64_t tiles = 0;       // of each kv head, at most
  int64_t partitions = 0;  // of a tile, at most
  int splits = 0;          // partitions at once, each in a block; 0: one after another in a block
  size_t shared_bytes = 0;
  size_t scratch_bytes = 0;
};

// tile_rows 0: the heads are too large, k_dim + v_dim over some 11000.
AttentionPlan PlanAttention(const KvCache& cache, const AttentionShape& shape);
// As told, for tests: tile_rows that fit shared memory, splits 0 to kMaxAttentionSplits. 16 rows of
// a bf16 cache use tensor cores.
AttentionPlan PlanAttention(const KvCache& cache, const AttentionShape& shape, int tile_rows,
                            int splits);

// Scratch enough for whatever shape.
size_t MaxAttentionScratchBytes(const KvCache& cache);

}  // namespace ballast::cuda
