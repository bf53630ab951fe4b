// Grouped matrix products on a GPU with the CPU's order of operations: every output is one chain of
// fused multiply-adds in k order, so float32 results equal the CPU's to the bit, and a row's bits
// do not depend on the tile it falls into. (Tensor cores sum in an order of their own; they are for
// bf16 compute, elsewhere.)
//
// A block of 256 threads computes a tile of 32 rows x 64 outputs of one group, 2 x 4 a thread, and
// reads 16 steps of k at a time through 6.3 KiB of static shared memory (10.5 KiB for gate_up).
// Bytes moved: weights once per 32 rows of their group, x once per 64 outputs. FLOPs: 2 rows n k of
// each group, on the FP32 units: 67 TFLOP/s on an H100 SXM bound it from 40 rows a group on.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/device.h"

namespace ballast::cuda {

// Elements from one row of a packed matrix to the next: rows begin 16 bytes apart at least. A
// packed matrix is [n, PackedStride(k)] of its type, row-major; what pads a row is never read.
constexpr int64_t PackedStride(int64_t k) { return (k + 7) / 8 * 8; }

// A group as the kernels see it; made by PlanTiles. Addresses are device memory.
struct TiledGroup {
  const void* weight;  // of gate_up: gate
  const void* up;      // of gate_up; else null
  int64_t n;
  int64_t k;
  int64_t weight_stride;  // elements from one row of weights to the next
  int64_t row_begin;
  int64_t rows;
  int64_t x_col;
  int64_t out_col;
  int64_t first_tile;  // of all groups' tiles, in order
};

// Groups without rows are left out.
struct TilePlan {
  std::vector<TiledGroup> groups;
  int64_t tiles = 0;
};
TilePlan PlanTiles(const MatmulGroup* groups, int64_t num_groups);
TilePlan PlanTiles(const GateUpGroup* groups, int64_t num_groups);

// As the verbs of kernels/device.h. `weight_type` is that of all groups; `groups` is plan.groups in
// device memory, `count` of them. Only enqueues. No tiles: nothing is enqueued.
cudaError_t Matmul(cudaStream_t stream, MatView x, DType weight_type, const TiledGroup* groups,
                   int64_t count, int64_t tiles, MatView out, bool accumulate);
cudaError_t GateUp(cudaStream_t stream, MatView x, DType weight_type, const TiledGroup* groups,
                   int64_t count, int64_t tiles, MatView out);

}  // namespace ballast::cuda
