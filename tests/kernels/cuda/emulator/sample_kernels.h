// Kernels that use each part of kernels/cuda/platform.h, some of them wrongly. nvcc compiles
// sample_kernels.cu for the GPU, sample_kernels.cc for the emulator.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace ballast {

// Each thread adds one to a number of its own.
__global__ void NumberThreads(int* out);
// out: each block's 128 numbers in reverse, through shared memory. A fault without the barrier.
__global__ void Reverse(const float* in, float* out, bool with_barrier);
// Each warp's sum, in all of its lanes.
__global__ void SumOfWarp(const float* in, float* out);
// Lanes 0 to 7 vote who is odd; the others, whether lane 9 is there.
__global__ void Votes(uint32_t* out);
// out: one block's numbers in reverse, by cp.async. A fault without waiting.
__global__ void CopyThrough(const float* in, float* out, bool wait);
// out [16, 8] = a [16, 16] * b [16, 8], through shared memory, ldmatrix and mma, by one warp.
__global__ void Multiply(const __nv_bfloat16* a, const __nv_bfloat16* b, float* out);
__global__ void CountAll(int* total);

// Planted faults.
__global__ void BarrierForSome();
__global__ void TwoBarriers();
__global__ void ShuffleOfSome(float* out);
__global__ void DifferentShuffles(float* out);
__global__ void ForgottenCopy(const float* in);
__global__ void MisalignedCopy(const float* in);
__global__ void CopyPart(const float* in, float* out, int bytes);
__global__ void MisalignedMatrices(const float* in);
__global__ void ForeignMask(uint32_t* out);

// Both on a stream: Reverse with its barrier, in `blocks` blocks, and BarrierForSome, in one.
cudaError_t LaunchReverse(const float* in, float* out, unsigned blocks, unsigned threads,
                          cudaStream_t stream);
cudaError_t LaunchBarrierForSome(unsigned threads, cudaStream_t stream);

}  // namespace ballast
