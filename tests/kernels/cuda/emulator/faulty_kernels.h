// Kernels with one fault each, which hardware may let pass. Without the fault, where there is a
// choice, they are right.
#pragma once

#include <cuda_runtime.h>

namespace ballast {

// out[i] = 1 for `count` numbers, by as many threads as it takes.
__global__ void Ones(float* out, int count);
// Reads shared memory one past its end.
__global__ void ReadPastShared(float* out);
// out [1]: a shared number that one thread wrote, or that nobody wrote.
__global__ void ReadShared(float* out, bool write);
// out[stored_at, + 4) = in[loaded_at, + 4), as one vector.
__global__ void CopyVector(const float* in, int loaded_at, float* out, int stored_at);
// More static shared memory than a block has.
__global__ void MuchShared(float* out);
// Dynamic shared memory, and 4 KiB of static.
__global__ void SomeShared(float* out);

// out: each warp's 32 numbers in reverse, through shared memory; ordered by __syncwarp, or by
// nothing but a vote.
__global__ void ReverseWarp(const float* in, float* out, bool with_sync);
// Rounds of cp.async into the same shared memory; the next begins before all have read the last.
__global__ void CopyRounds(const float* in, float* out, int rounds, bool with_barrier);
// Every block writes its own number of `out`, or all write the first.
__global__ void BlocksWrite(float* out, bool apart);
// ldmatrix of rows that another warp has written.
__global__ void LoadOtherWarp(float* out, bool with_barrier);

// On a stream.
cudaError_t LaunchOnes(float* out, int count, cudaStream_t stream);

}  // namespace ballast
