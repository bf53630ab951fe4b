#include "tests/kernels/cuda/emulator/sample_kernels.h"

#include "kernels/cuda/launch.h"
#include "kernels/cuda/platform.h"

namespace ballast {

namespace {

constexpr uint32_t kAll = 0xffffffffu;

}  // namespace

__global__ void NumberThreads(int* out) {
  const unsigned block = blockIdx.x + gridDim.x * blockIdx.y;
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] += 1;
}

__global__ void Reverse(const float* in, float* out, bool with_barrier) {
  SHARED_ARRAY(float, held, 128);
  const unsigned i = threadIdx.x;
  held[i] = in[blockIdx.x * 128 + i];
  if (with_barrier) __syncthreads();
  out[blockIdx.x * 128 + i] = held[127 - i];
}

__global__ void SumOfWarp(const float* in, float* out) {
  float sum = in[threadIdx.x];
  for (int flip = 16; flip > 0; flip /= 2) sum += __shfl_xor_sync(kAll, sum, flip);
  out[threadIdx.x] = sum;
}

__global__ void Votes(uint32_t* out) {
  const bool odd = threadIdx.x % 2 == 1;
  if (threadIdx.x < 8) {
    out[threadIdx.x] = __ballot_sync(0xffu, odd);
  } else {
    out[threadIdx.x] =
        __any_sync(0xffffff00u, threadIdx.x == 9) ? __shfl_sync(0xffffff00u, 7u, 8) : 0u;
  }
}

__global__ void CopyThrough(const float* in, float* out, bool wait) {
  DYNAMIC_SHARED(float, held);
  const unsigned i = threadIdx.x;
  CopyAsync<4>(held + i, in + i);
  CommitCopies();
  if (wait) WaitForCopies<0>();
  __syncthreads();
  out[i] = held[blockDim.x - 1 - i];
  if (!wait) WaitForCopies<0>();
}

__global__ void Multiply(const __nv_bfloat16* a, const __nv_bfloat16* b, float* out) {
  SHARED_ARRAY(__nv_bfloat16, tile_a, 256);
  SHARED_ARRAY(__nv_bfloat16, tile_b, 256);  // the second 8 columns are 0
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) {
    tile_a[i] = a[i];
    tile_b[i] = i % 16 < 8 ? b[i / 16 * 8 + i % 16] : __float2bfloat16(0.0f);
  }
  __syncwarp(kAll);
  uint32_t fragment_a[4];
  uint32_t fragment_b[4];
  LoadMatrix(fragment_a, tile_a + lane % 16 * 16 + lane / 16 * 8);
  LoadMatrixTransposed(fragment_b, tile_b + lane % 16 * 16 + lane / 16 * 8);
  float sum[4] = {};
  const uint32_t b_half[2] = {fragment_b[0], fragment_b[1]};
  MmaBf16(sum, fragment_a, b_half);
  for (int i = 0; i < 4; ++i) {
    out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
  }
}

__global__ void CountAll(int* total) { atomicAdd(total, 1); }

__global__ void BarrierForSome() {
  if (threadIdx.x < 40) __syncthreads();
}

__global__ void TwoBarriers() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void ShuffleOfSome(float* out) {
  if (threadIdx.x == 5) return;
  out[threadIdx.x] = __shfl_xor_sync(kAll, 1.0f, 1);
}

__global__ void DifferentShuffles(float* out) {
  out[threadIdx.x] =
      threadIdx.x < 16 ? __shfl_xor_sync(kAll, 1.0f, 1) : __shfl_down_sync(kAll, 1.0f, 1);
}

__global__ void ForgottenCopy(const float* in) {
  SHARED_ARRAY(float, held, 32);
  CopyAsync<4>(held + threadIdx.x, in + threadIdx.x);
  CommitCopies();
}

__global__ void MisalignedCopy(const float* in) {
  SHARED_ARRAY(float, held, 32);
  CopyAsync<16>(held + 1, in);
}

__global__ void CopyPart(const float* in, float* out, int bytes) {
  SHARED_ARRAY(float4, held, 1);
  CopyAsyncOrZero(held, in, bytes);
  CommitCopies();
  WaitForCopies<0>();
  out[0] = held[0].x;
  out[1] = held[0].y;
  out[2] = held[0].z;
  out[3] = held[0].w;
}

__global__ void MisalignedMatrices(const float* in) {
  SHARED_ARRAY(float4, held, 64);
  held[threadIdx.x] = held[threadIdx.x + 32] = make_float4(in[0], 0, 0, 0);
  __syncwarp(kAll);
  const auto* const row = reinterpret_cast<const __nv_bfloat16*>(held + threadIdx.x);
  const __nv_bfloat16* const rows[2] = {row, row + 1};
  uint32_t fragments[2][4];
  LoadMatrices(fragments, rows);
}

__global__ void ForeignMask(uint32_t* out) { out[threadIdx.x] = __ballot_sync(0xffffu, true); }

cudaError_t LaunchReverse(const float* in, float* out, unsigned blocks, unsigned threads,
                          cudaStream_t stream) {
  return Launch("reverse", Reverse, {dim3(blocks), dim3(threads)}, stream, in, out, true);
}

cudaError_t LaunchBarrierForSome(unsigned threads, cudaStream_t stream) {
  return Launch("barrier", BarrierForSome, {dim3(1), dim3(threads)}, stream);
}

}  // namespace ballast
