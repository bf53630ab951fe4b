// kernels/cuda/platform.h for the emulator: CUDA's device-side names as host functions that act on
// the running thread of the running block (block.h). Included by .cu files that the host's compiler
// takes, and by nothing else: the macros have CUDA's names.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>

#include "kernels/cuda/emulator/block.h"
#include "kernels/cuda/emulator/warp.h"

#define threadIdx (::ballast::emulator::Block::Current().thread().index)
#define blockIdx (::ballast::emulator::Block::Current().index())
#define blockDim (::ballast::emulator::Block::Current().shape().block)
#define gridDim (::ballast::emulator::Block::Current().shape().grid)

#define BALLAST_PLACE (::ballast::emulator::Place{__FILE__, __LINE__})

// What registers allow is for nvcc to say.
#define __launch_bounds__(...)
#define UNROLL
#define ROLLED

#define __syncthreads() ::ballast::emulator::Block::Current().Barrier(BALLAST_PLACE)
#define __syncwarp(mask) ::ballast::emulator::SyncWarp(mask, BALLAST_PLACE)
#define __shfl_sync(mask, value, lane) \
  ::ballast::emulator::Shuffle(mask, value, lane, BALLAST_PLACE)
#define __shfl_xor_sync(mask, value, flip) \
  ::ballast::emulator::ShuffleXor(mask, value, flip, BALLAST_PLACE)
#define __shfl_down_sync(mask, value, by) \
  ::ballast::emulator::ShuffleDown(mask, value, by, BALLAST_PLACE)
#define __ballot_sync(mask, predicate) ::ballast::emulator::Ballot(mask, predicate, BALLAST_PLACE)
#define __any_sync(mask, predicate) \
  (::ballast::emulator::Ballot(mask, predicate, BALLAST_PLACE) != 0)
#define __all_sync(mask, predicate) \
  (::ballast::emulator::Ballot(mask, !(predicate), BALLAST_PLACE) == 0)

#define BALLAST_SHARED(type, name, dimensions)                                                \
  static const char name##_tag = 0;                                                           \
  auto& name = *static_cast<type(*) dimensions>(::ballast::emulator::Block::Current().Shared( \
      &name##_tag, sizeof(type dimensions), alignof(type)))

#define SHARED_ARRAY(type, name, count) BALLAST_SHARED(type, name, [count])
#define SHARED_TILE(type, name, rows, cols) BALLAST_SHARED(type, name, [rows][cols])

#define DYNAMIC_SHARED(type, name) \
  type* const name = static_cast<type*>(::ballast::emulator::Block::Current().DynamicShared())

#define LoadVector ::ballast::emulator::VectorAt{BALLAST_PLACE}.Load
#define StoreVector ::ballast::emulator::VectorAt{BALLAST_PLACE}.Store

#define CommitCopies() ::ballast::emulator::Block::Current().CommitCopies()
#define LoadMatrix(out, row) ::ballast::emulator::LoadFragments(out, row, false, BALLAST_PLACE)
#define LoadMatrixTransposed(out, row) \
  ::ballast::emulator::LoadFragments(out, row, true, BALLAST_PLACE)
#define MmaBf16(sum, a, b) ::ballast::emulator::MultiplyFragments(sum, a, b, BALLAST_PLACE)
#define LoadMatrices(out, rows) ::ballast::emulator::LoadFragments(out, rows, BALLAST_PLACE)
#define MmaBf16Tiles(sums, a, b) ::ballast::emulator::MultiplyTiles(sums, a, b, BALLAST_PLACE)

// Of 4 bytes, relaxed as on a GPU. There are none for floats: sums would come in any order.
template <typename T>
requires(std::is_same_v<T, int> || std::is_same_v<T, unsigned>) T atomicAdd(T* at, T value) {
  return std::atomic_ref<T>(*at).fetch_add(value, std::memory_order_relaxed);
}

inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline unsigned long long __float2ull_rn(float a) {
  return static_cast<unsigned long long>(std::nearbyint(a));
}
inline uint32_t __float_as_uint(float a) { return std::bit_cast<uint32_t>(a); }
inline float __uint_as_float(uint32_t a) { return std::bit_cast<float>(a); }

namespace ballast {
namespace emulator {

struct VectorAt {
  Place place;

  template <typename Vector>
  Vector Load(const void* from) const {
    Check(from, alignof(Vector));
    return *static_cast<const Vector*>(from);
  }
  template <typename Vector>
  void Store(void* to, Vector vector) const {
    Check(to, alignof(Vector));
    *static_cast<Vector*>(to) = vector;
  }

 private:
  void Check(const void* at, size_t alignment) const {
    if (reinterpret_cast<uintptr_t>(at) % alignment == 0) return;
    Block::Current().Fail(
        place, "a vector at an address that is not " + std::to_string(alignment) + "-byte aligned");
  }
};

}  // namespace emulator

template <int kBytes>
void CopyAsync(void* to, const void* from) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp.async copies 4, 8 or 16 bytes");
  emulator::Block::Current().CopyAsync(to, from, kBytes, kBytes, {"cp.async", kBytes});
}

inline void CopyAsyncOrZero(void* to, const void* from, int count) {
  emulator::Block::Current().CopyAsync(to, from, 16, count, {"cp.async", 16});
}

template <int kLeft>
void WaitForCopies() {
  emulator::Block::Current().WaitForCopies(kLeft);
}

}  // namespace ballast
