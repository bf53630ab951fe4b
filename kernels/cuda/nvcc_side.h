// kernels/cuda/platform.h for the GPU. Reference: PTX ISA 8.x, sections 9.7.9.25 (cp.async),
// 9.7.14.5 (mma, ldmatrix).
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#define SHARED_ARRAY(type, name, count) __shared__ type name[count]
#define SHARED_TILE(type, name, rows, cols) __shared__ type name[rows][cols]

#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")

#define DYNAMIC_SHARED(type, name)                            \
  extern __shared__ __align__(16) unsigned char shared_raw[]; \
  type* const name = reinterpret_cast<type*>(shared_raw)

namespace ballast {

template <int kBytes>
__device__ inline void CopyAsync(void* to, const void* from) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp.async copies 4, 8 or 16 bytes");
  const auto shared = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(from) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared), "l"(from), "n"(kBytes)
                 : "memory");
  }
}

__device__ inline void CopyAsyncOrZero(void* to, const void* from, int count) {
  const auto shared = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(from), "r"(count)
               : "memory");
}

template <typename Vector>
__device__ inline Vector LoadVector(const void* from) {
  return *static_cast<const Vector*>(from);
}
template <typename Vector>
__device__ inline void StoreVector(void* to, Vector vector) {
  *static_cast<Vector*>(to) = vector;
}

__device__ inline void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int kLeft>
__device__ inline void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

__device__ inline void LoadMatrix(uint32_t (&out)[4], const __nv_bfloat16* row) {
  const auto shared = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared)
               : "memory");
}

__device__ inline void LoadMatrixTransposed(uint32_t (&out)[4], const __nv_bfloat16* row) {
  const auto shared = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared)
               : "memory");
}

__device__ inline void MmaBf16(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <int kCount>
__device__ inline void LoadMatrices(uint32_t (&out)[kCount][4],
                                    const __nv_bfloat16* const (&rows)[kCount]) {
  UNROLL for (int i = 0; i < kCount; ++i) LoadMatrix(out[i], rows[i]);
}

template <int kRows, int kCols>
__device__ inline void MmaBf16Tiles(float (&sums)[kRows][kCols][4], const uint32_t (&a)[kRows][4],
                                    const uint32_t (&b)[kCols / 2][4]) {
  UNROLL for (int j = 0; j < kCols; ++j) {
    const uint32_t half[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
    UNROLL for (int i = 0; i < kRows; ++i) MmaBf16(sums[i][j], a[i], half);
  }
}

}  // namespace ballast
