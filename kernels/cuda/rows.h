// Verbs of kernels/device.h that work on each row by itself, on a GPU. All memory is device memory.
// Each only enqueues, on `stream`; the answer is the launch's. No rows: nothing is enqueued.
//
// Each runs a block of 256 threads per row and uses no dynamic shared memory. Bytes moved are those
// of the matrices named, each read or written once; FLOPs are a few per element, so memory bounds
// all.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/device.h"

namespace ballast::cuda {

// Its sum of squares is 16 chains of cols / 16 fused multiply-adds in one warp (the promise's
// order): about 4 cycles each, under the time of reading a row from memory up to 16 Ki columns.
cudaError_t RmsNorm(cudaStream_t stream, MatView x, const float* weight, float eps, MatView out);
// x f32 or bf16.
cudaError_t Convert(cudaStream_t stream, MatView x, MatView out);
// table [n, PackedStride(k)] (matmul.h), f32 or bf16; ids below n.
cudaError_t Embed(cudaStream_t stream, const PackedMatrix& table, const int32_t* ids, MatView out);
cudaError_t Clamp(cudaStream_t stream, MatView x, float limit);
cudaError_t Rope(cudaStream_t stream, HeadsView x, const float* cos_sin, int64_t rotary_dim,
                 bool interleaved, HeadsView out);
cudaError_t CopyRows(cudaStream_t stream, const void* const* rows, MatView out);
cudaError_t Combine(cudaStream_t stream, const float* const* rows, const float* weights, int32_t k,
                    MatView shared, MatView out);

}  // namespace ballast::cuda
