// Kernels that check_gpu_code refuses. Nothing else compiles them.
#include <cuda_runtime.h>

namespace ballast {

__global__ void __launch_bounds__(128) AddsFloats(float* sum, const float* values) {
  atomicAdd(sum, values[threadIdx.x]);
}

__global__ void __launch_bounds__(128)
    AddsDoublesBySwapping(unsigned long long* sum, double value) {
  unsigned long long seen = *sum;
  unsigned long long before = 0;
  do {
    before = seen;
    seen = atomicCAS(sum, before, __double_as_longlong(__longlong_as_double(before) + value));
  } while (seen != before);
}

__global__ void HasNoBounds(float* out) { out[threadIdx.x] = 1.0f; }

__global__ void __launch_bounds__(128) IndexesLocalMemory(const int* at, float* out) {
  float values[64];
  for (int i = 0; i < 64; ++i) values[i] = out[i];
  for (int i = 0; i < 64; ++i) values[at[i] & 63] += out[i];
  for (int i = 0; i < 64; ++i) out[i] = values[at[i + 64] & 63];
}

// 1024 threads leave each 64 registers.
__global__ void __launch_bounds__(1024) SpillsRegisters(float* out) {
  float values[96];
#pragma unroll
  for (int i = 0; i < 96; ++i) values[i] = out[i * 1024 + threadIdx.x];
  __syncthreads();
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < 96; ++i) sum = sum * values[i] + values[95 - i];
#pragma unroll
  for (int i = 0; i < 96; ++i) out[i * 1024 + threadIdx.x] = values[i] * sum;
}

__global__ void __launch_bounds__(128) IsFine(int* count) { atomicAdd(count, 1); }

}  // namespace ballast
