#include "tests/kernels/cuda/emulator/faulty_kernels.h"

#include "kernels/cuda/launch.h"
#include "kernels/cuda/platform.h"

namespace ballast {

namespace {

constexpr uint32_t kAll = 0xffffffffu;

}  // namespace

__global__ void Ones(float* out, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) out[i] = 1.0f;
}

__global__ void ReadPastShared(float* out) {
  SHARED_ARRAY(float, held, 32);
  held[threadIdx.x] = 1.0f;
  __syncthreads();
  const float* const next = held + 1;  // UBSan would find the index in the array
  out[threadIdx.x] = next[threadIdx.x];
}

__global__ void ReadShared(float* out, bool write) {
  SHARED_ARRAY(float, held, 1);
  if (write && threadIdx.x == 0) held[0] = 1.0f;
  __syncthreads();
  if (threadIdx.x == 0) *out = held[0];
}

__global__ void CopyVector(const float* in, int loaded_at, float* out, int stored_at) {
  StoreVector(out + stored_at, LoadVector<float4>(in + loaded_at));
}

__global__ void MuchShared(float* out) {
  SHARED_ARRAY(float, first, 6 << 10);
  SHARED_ARRAY(float, second, (6 << 10) + 1);
  first[0] = 1.0f;
  second[0] = first[0];
  *out = second[0];
}

__global__ void SomeShared(float* out) {
  DYNAMIC_SHARED(float, dynamic);
  SHARED_ARRAY(float, held, 1 << 10);
  dynamic[0] = 1.0f;
  held[0] = dynamic[0];
  *out = held[0];
}

__global__ void ReverseWarp(const float* in, float* out, bool with_sync) {
  SHARED_ARRAY(float, held, 64);
  const unsigned warp = threadIdx.x / 32 * 32;
  held[threadIdx.x] = in[threadIdx.x];
  if (with_sync) {
    __syncwarp(kAll);
  } else if (!__any_sync(kAll, true)) {
    return;
  }
  out[threadIdx.x] = held[warp + 31 - threadIdx.x % 32];
}

__global__ void CopyRounds(const float* in, float* out, int rounds, bool with_barrier) {
  SHARED_ARRAY(float, held, 64);
  const unsigned i = threadIdx.x;
  for (int round = 0; round < rounds; ++round) {
    CopyAsync<4>(held + i, in + round * 64 + i);
    CommitCopies();
    WaitForCopies<0>();
    __syncthreads();
    out[round * 64 + i] = held[63 - i];
    if (with_barrier) __syncthreads();
  }
}

__global__ void BlocksWrite(float* out, bool apart) {
  if (threadIdx.x == 0) out[apart ? blockIdx.x : 0] = static_cast<float>(blockIdx.x);
}

__global__ void LoadOtherWarp(float* out, bool with_barrier) {
  SHARED_ARRAY(__nv_bfloat16, tile, 512);
  for (int i = 0; i < 8; ++i) tile[threadIdx.x * 8 + i] = __float2bfloat16(1.0f);
  if (with_barrier) __syncthreads();
  uint32_t fragment[4];
  LoadMatrix(fragment, tile + (threadIdx.x ^ 32) * 8);
  out[threadIdx.x] = static_cast<float>(fragment[0]);
}

cudaError_t LaunchOnes(float* out, int count, cudaStream_t stream) {
  return Launch("ones", Ones, {dim3(static_cast<unsigned>(count + 63) / 64), dim3(64)}, stream, out,
                count);
}

}  // namespace ballast
