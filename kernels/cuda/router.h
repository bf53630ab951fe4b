// Router logits to expert choices on a GPU; formula in kernels/device.h (RouterConfig). All
// pointers are device memory; only enqueues, on `stream`.
//
// One warp per row, four to a block of 128 threads; dynamic shared memory: 4 warps x (2 experts +
// groups) floats. Bytes moved: the logits once, k ids and weights a row. Up to 1 Ki experts and 8
// chosen it is bound by reading the logits.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/device.h"

namespace ballast::cuda {

// cudaErrorInvalidValue: the scores of a block do not fit into 48 KiB (over 3 Ki experts).
cudaError_t Route(cudaStream_t stream, MatView logits, const RouterConfig& config,
                  const float* bias, int32_t* ids, float* weights);

}  // namespace ballast::cuda
