// The paged KV cache on a GPU: its layout, writing it, and moving whole blocks. All memory is
// device memory; slots and block numbers are those of kernels/device.h, in device memory too.
// Everything only enqueues, on `stream`; the answer is the launch's. No rows or blocks: nothing is
// enqueued.
//
// [block][kv head][keys | values], in the cache's type:
//   keys    bf16 [ceil(k_dim / 2)][16 tokens][2 dimensions], f32 [k_dim][16 tokens]: a thread per
//           token reads its dimensions one after another, and its neighbours' lie beside them
//   values  bf16 as keys, which is how tensor cores take both and what v_in_k has; f32
//           [16 tokens][value_stride]: a thread per dimension reads token after token
// With v_in_k there are keys only.
//
// Memory bounds every kernel: bytes moved are those named, each read or written once; no FLOPs.
//   WriteKv   a block of 128 threads per row and kv head; k and v read, as many elements written.
//             A row's keys are written 4 bytes to a sector of 32, which L2 gathers over rows.
//   others    a block of 256 threads per 16 KiB of a KV block; 16 bytes a thread at a time
// No shared memory.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/device.h"

namespace ballast::cuda {

// From one step of keys (4 bytes of each of 16 tokens) to the next.
inline constexpr int kKeyStepBytes = 4 * kKvBlockTokens;

struct KvLayout {
  int64_t key_bytes;     // of a head of a block
  int64_t head_bytes;    // keys and values
  int64_t block_bytes;   // all heads
  int64_t value_stride;  // f32: elements, from one token's values to the next
};
KvLayout KvLayoutOf(const KvCache& cache);

size_t KvBytes(const KvCache& cache);

// As the verb of kernels/device.h.
cudaError_t WriteKv(cudaStream_t stream, const KvCache& cache, HeadsView k, HeadsView v,
                    const int32_t* slots);

// Block to_blocks[i] = block from_blocks[i], for i < count; no block is in both lists.
cudaError_t CopyKvBlocks(cudaStream_t stream, const KvCache& cache, const int32_t* from_blocks,
                         const int32_t* to_blocks, int64_t count);
// Blocks one after another in `staging`, count * block_bytes, aligned to 16 bytes: for swapping out
// and in, and for sending.
cudaError_t GatherKvBlocks(cudaStream_t stream, const KvCache& cache, const int32_t* blocks,
                           int64_t count, void* staging);
cudaError_t ScatterKvBlocks(cudaStream_t stream, const KvCache& cache, const void* staging,
                            const int32_t* blocks, int64_t count);

}  // namespace ballast::cuda
