// Paged attention on a GPU, with the bits of the CPU's reference kernels, also over bf16 caches.
//
// The rows of one kv head - the queries of a span by the heads that share it - are cut into tiles,
// which read their keys and values once. A block of 128 threads computes a tile over a partition of
// kAttentionPartition keys: scores (a thread per two keys, all rows of the tile), exponentials (16
// lanes per row), weighted sums (a thread per two dimensions of 8 rows). There are two ways on,
// which differ in no bit:
//   one after another   the block goes through all partitions of its tile and merges as it goes;
//                       grid (tiles, kv heads)
//   split               where tiles are few, blocks of their own take up to `splits` partitions of
//                       each tile and leave them in scratch; a second kernel, a block of 128
//                       threads per row and head, merges them in order. Grids (tiles, kv heads,
//                       splits) and (rows, heads), launched once per `splits` partitions of the
//                       longest row.
// Dynamic shared memory, in floats: tile_rows * (k_dim + 256), and tile_rows * v_dim to merge in;
// below 48 KiB. The merge uses 2 KiB.
//
// Bytes moved: keys and values of a tile, once for its 16, 8 or 1 rows (from L2 where tiles share
// them); q and out once; split, also two times 4 (v_dim + 2) bytes per row, head and partition.
// FLOPs: 2 (k_dim + v_dim) per row, head and key, rounded up to whole tiles and, for scores, to
// whole partitions. On an H100: decode of grouped queries is bound by memory (3.35 TB/s: tiles of 8
// rows need half of the FP32 units' 67 TFLOP/s); prefill and latent attention, whose many heads
// share a latent, are bound by the FP32 units, for the chains in k order that make the bits do not
// fit tensor cores.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/attention_plan.h"
#include "kernels/device.h"

namespace ballast::cuda {

// Scratch that a call needs; of the batch, only its number of spans and max_keys are read.
size_t AttentionScratchBytes(const KvCache& cache, HeadsView q, const AttentionBatch& batch,
                             int32_t window);

// As the verb of kernels/device.h. What `batch` points to is device memory, and so is `scratch`:
// AttentionScratchBytes, aligned to 8, that no other work uses until this is done. Only enqueues.
// No rows: nothing is. cudaErrorInvalidValue: the heads are too large (attention_plan.h).
cudaError_t Attention(cudaStream_t stream, const KvCache& cache, HeadsView q,
                      const AttentionBatch& batch, float scale, int32_t window, const float* sinks,
                      HeadsView out, void* scratch);

// By this plan, made for the same cache, rows, heads and spans.
cudaError_t Attention(cudaStream_t stream, const AttentionPlan& plan, const KvCache& cache,
                      HeadsView q, const AttentionBatch& batch, float scale, int32_t window,
                      const float* sinks, HeadsView out, void* scratch);

}  // namespace ballast::cuda
