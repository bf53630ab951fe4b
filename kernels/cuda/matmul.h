// Grouped matrix products on a GPU. With x in float32 they have the CPU's order of operations:
// every output is one chain of fused multiply-adds in k order, so results equal the CPU's to the
// bit, and a row's bits do not depend on the tile it falls into. With x in bf16 they are the tensor
// cores' (matmul_bf16.h).
//
// In float32, a block of 128 threads computes a tile of 32 rows x 64 outputs of one group, 4 x 4 a
// thread, and reads 32 steps of k at a time through two buffers of shared memory, 26.0 KiB in all
// (43.0 KiB for gate_up), all of it static. Bytes moved: weights once per 32 rows of their group, x
// once per 64 outputs. FLOPs: 2 rows n k of each group, on the FP32 units: 67 TFLOP/s on an H100
// SXM bound it from 40 rows a group on.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/tile_plan.h"
#include "kernels/device.h"

namespace ballast::cuda {

// As the verbs of kernels/device.h; `plan` was made for x's type and these groups. `groups` is
// plan.groups in device memory, or the list that only the GPU knows; null where the plan has one
// group, which then goes with the launch. Only enqueues. No tiles: nothing is enqueued.
cudaError_t Matmul(cudaStream_t stream, MatView x, const TilePlan& plan, const TiledGroup* groups,
                   MatView out, bool accumulate);
cudaError_t GateUp(cudaStream_t stream, MatView x, const TilePlan& plan, const TiledGroup* groups,
                   MatView out);

}  // namespace ballast::cuda
