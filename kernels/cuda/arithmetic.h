// Arithmetic of single elements, with the operations of the CPU's kernels in their order, so that
// float32 results are equal to the bit (kernels/cpu/inner_loops.h). nvcc is told not to fuse
// (-fmad=false): a multiply and an add are fused where the source says __fmaf_rn.
#pragma once

#include <cstdint>

#include "kernels/cuda/platform.h"

namespace ballast::cuda {

constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr int kSumLanes = 16;  // of every interleaved sum (kernels/device.h)

// Nearest even; NaN stays NaN.
__device__ inline uint16_t ToBf16(float x) {
  const uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

__device__ inline float FromBf16(uint16_t x) { return __uint_as_float(uint32_t{x} << 16); }

// Elements of a matrix in memory: float, or uint16_t for bf16.
__device__ inline float Load(const float* at) { return *at; }
__device__ inline float Load(const uint16_t* at) { return FromBf16(*at); }
__device__ inline void Store(float* at, float x) { *at = x; }
__device__ inline void Store(uint16_t* at, float x) { *at = ToBf16(x); }

// exp as kernels/cpu/inner_loops.h states it; Cephes expf (S. Moshier).
__device__ inline float Exp(float x) {
  if (x != x) return x;
  x = x < -104.0f ? -104.0f : x;
  x = x > 89.0f ? 89.0f : x;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = __fmaf_rn(x, 1.44269504088896341f, kRound);
  const float n = shifted - kRound;
  const float r = __fmaf_rn(n, 2.12194440e-4f, __fmaf_rn(n, -0.693359375f, x));
  float p = 1.9875691500e-4f;
  p = __fmaf_rn(p, r, 1.3981999507e-3f);
  p = __fmaf_rn(p, r, 8.3334519073e-3f);
  p = __fmaf_rn(p, r, 4.1665795894e-2f);
  p = __fmaf_rn(p, r, 1.6666665459e-1f);
  p = __fmaf_rn(p, r, 5.0000001201e-1f);
  const float y = __fmaf_rn(p, r * r, r) + 1.0f;
  const int exponent = static_cast<int>(n);
  const int half = exponent >> 1;
  const float low = __uint_as_float(static_cast<uint32_t>(half + 127) << 23);
  const float high = __uint_as_float(static_cast<uint32_t>(exponent - half + 127) << 23);
  return y * low * high;
}

// The sum of a warp's first 16 lanes, halved pairwise; in lane 0. All lanes of the warp call it.
__device__ inline float SumOfLanes(float lane_sum) {
  for (int half = kSumLanes / 2; half >= 1; half /= 2) {
    lane_sum = lane_sum + __shfl_down_sync(kAllLanes, lane_sum, half);
  }
  return lane_sum;
}

}  // namespace ballast::cuda
