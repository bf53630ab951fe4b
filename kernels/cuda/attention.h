// Paged attention on a GPU. Float32 caches give the bits of the CPU's reference kernels. Bf16
// caches go through tensor cores (attention_bf16.cu), whose bits are their own, alike for prefill
// and decode; but for heads too large for those (k_dim over some 900, v_dim over 512), which give
// the CPU's.
//
// The rows of one kv head - the queries of a span by the heads that share it - are cut into tiles,
// which read their keys and values once. A block of 128 threads computes a tile over a partition of
// kAttentionPartition keys: scores, exponentials (16 lanes per row), weighted sums. In float32 a
// thread has two keys, then two dimensions of 8 rows; on tensor cores a warp has every fourth KV
// block, then every fourth 8 dimensions. There are two ways on, which differ in no bit:
//   one after another   the block goes through all partitions of its tile and merges as it goes;
//                       grid (tiles, kv heads)
//   split               where tiles are few, blocks of their own take up to `splits` partitions of
//                       each tile and leave them in scratch; a second kernel, a block of 128
//                       threads per row and head, merges them in order. Grids (tiles, kv heads,
//                       splits) and (rows, heads), launched once per `splits` partitions of the
//                       longest row.
// Dynamic shared memory, below 48 KiB: scores, 1056 tile_rows; in float32 also 4 tile_rows * k_dim,
// and 4 tile_rows * v_dim to merge in; on tensor cores also 32 (k_dim + 8), and sums in registers.
// The merge has 2 KiB, static.
//
// Bytes moved: keys and values of a tile, once for its 16, 8 or 1 rows (from L2 where tiles share
// them); q and out once; split, also two times 4 (v_dim + 2) bytes per row, head and partition.
// FLOPs: 2 (k_dim + v_dim) per row, head and key, in whole tiles of rows, and keys in whole
// partitions for float32's scores, else in whole KV blocks. On an H100 decode of grouped queries is
// bound by memory, 3.35 TB/s. Prefill is bound by L2 in bf16: 16 FLOPs a byte, some 90 TFLOP/s from
// 5.5 TB/s; so is latent attention, whose heads are 2 or more tiles that share a latent. In float32
// both are bound by the FP32 units, 67 TFLOP/s.
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
