// Logits to tokens on a GPU, the very tokens of the CPU; what is computed is stated in
// kernels/sampling.h. All pointers are device memory; only enqueues, on `stream`.
//
// One block of 1024 threads per row; 16.3 KiB of static shared memory, no dynamic. Read are 72
// bytes of parameters, 8, 4 and 8 bytes per entry of bias, banned and history, and the row's 4 *
// vocab bytes: once from memory, then from L2, which holds it. Times in all:
//   1 for the largest logit, 1 for the draw (not with temperature 0), 1 with any side array;
//   top_k 1 to 4, top_p 2 to 4: bins that narrow down to one logit; 1 each where only some of
//     several equal logits are kept.
// About 10 operations per token and time, and 40 more for an exponential: in the draw and in the
// first look of top_p for what is kept so far and less than 29 temperatures below the largest.
//
// Few rows leave most of the GPU idle. One multiprocessor takes 64 bytes a cycle from L2 (152,000
// logits: 6 us at 1.7 GHz) and does 128 operations a cycle (7 us, with exponentials 35), and that
// is what bounds the kernel: up to 132 rows cost an H100 what one does, about 15 us greedily, 45 us
// with a temperature, 100 us with top_p. The product that makes the logits takes 370 us with 4096
// columns in bf16.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/device.h"

namespace ballast::cuda {

cudaError_t Sample(cudaStream_t stream, MatView logits, const SampleParameters* rows,
                   const SampleSides& sides, int32_t* tokens);

}  // namespace ballast::cuda
