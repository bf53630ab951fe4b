// Sixteen floats in two AVX2 registers. For avx2.cc only.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/inner_loops.h"

namespace ballast {
namespace {

struct Lanes {
  __m256 low, high;
};
struct Ints {
  __m256i low, high;
};
using Mask = Ints;

constexpr int kTileRows = 6;
// 12 of 16 registers accumulate.
constexpr int TilePanels(int rows) { return rows == 1 ? 4 : rows <= 3 ? 2 : 1; }

inline Lanes Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Lanes Set(float x) {
  const __m256 v = _mm256_set1_ps(x);
  return {v, v};
}
inline Lanes Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void Store(float* p, Lanes x) {
  _mm256_storeu_ps(p, x.low);
  _mm256_storeu_ps(p + 8, x.high);
}
inline Lanes Fma(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline Lanes Add(Lanes a, Lanes b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
inline Lanes Sub(Lanes a, Lanes b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
inline Lanes Mul(Lanes a, Lanes b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
inline Lanes Div(Lanes a, Lanes b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
// a > b ? a : b and a < b ? a : b: the second when either is NaN.
inline Lanes Max(Lanes a, Lanes b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
inline Lanes Min(Lanes a, Lanes b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}

// Lanes first <= lane < last, as all-ones.
inline Mask Between(int64_t first, int64_t last) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i from = _mm256_set1_epi32(static_cast<int>(first < -1 ? -1 : first) - 1);
  const __m256i to = _mm256_set1_epi32(static_cast<int>(last > 16 ? 16 : last));
  const __m256i lane8 = _mm256_add_epi32(lane, _mm256_set1_epi32(8));
  return {_mm256_and_si256(_mm256_cmpgt_epi32(lane, from), _mm256_cmpgt_epi32(to, lane)),
          _mm256_and_si256(_mm256_cmpgt_epi32(lane8, from), _mm256_cmpgt_epi32(to, lane8))};
}
inline Lanes Select(Mask mask, Lanes yes, Lanes no) {
  return {_mm256_blendv_ps(no.low, yes.low, _mm256_castsi256_ps(mask.low)),
          _mm256_blendv_ps(no.high, yes.high, _mm256_castsi256_ps(mask.high))};
}
inline Lanes LoadPart(const float* p, int64_t n) {
  const Mask mask = Between(0, n);
  return {_mm256_maskload_ps(p, mask.low), _mm256_maskload_ps(p + 8, mask.high)};
}
inline void StorePart(float* p, Lanes x, int64_t n) {
  const Mask mask = Between(0, n);
  _mm256_maskstore_ps(p, mask.low, x.low);
  _mm256_maskstore_ps(p + 8, mask.high, x.high);
}

inline Ints Bits(Lanes x) { return {_mm256_castps_si256(x.low), _mm256_castps_si256(x.high)}; }
inline Lanes FromBits(Ints x) { return {_mm256_castsi256_ps(x.low), _mm256_castsi256_ps(x.high)}; }
inline Ints SetInt(int32_t x) {
  const __m256i v = _mm256_set1_epi32(x);
  return {v, v};
}
inline Ints AddInt(Ints a, Ints b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
inline Ints SubInt(Ints a, Ints b) {
  return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)};
}
inline Ints HalfInt(Ints a) { return {_mm256_srai_epi32(a.low, 1), _mm256_srai_epi32(a.high, 1)}; }
inline Ints ToExponent(Ints a) {
  return {_mm256_slli_epi32(a.low, 23), _mm256_slli_epi32(a.high, 23)};
}

// Eight bf16 in the low halves of eight ints.
inline __m256i RoundEight(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
}
inline void StoreRounded(uint16_t* p, Lanes x) {
  // packus works within 128-bit halves; the permute puts the quarters in order.
  const __m256i packed = _mm256_packus_epi32(RoundEight(x.low), RoundEight(x.high));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xD8));
}
inline void StoreRoundedPart(uint16_t* p, Lanes x, int64_t n) {
  uint16_t rounded[16];
  StoreRounded(rounded, x);
  for (int64_t i = 0; i < n; ++i) p[i] = rounded[i];
}

// lane j + lane j + 8, then 4, 2, 1 apart.
inline float SumLanes(Lanes x) {
  const __m256 eight = _mm256_add_ps(x.low, x.high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float MaxLanes(Lanes x) {
  const __m256 eight = _mm256_max_ps(x.low, x.high);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// Sixteen (even, odd) pairs of bf16, from a panel or one pair of x in every lane.
using Pairs = Ints;
inline Pairs LoadPairs(const void* p) {
  const __m256i* v = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
}
inline Pairs SetPair(const void* p) {
  int32_t pair;
  __builtin_memcpy(&pair, p, sizeof pair);
  return SetInt(pair);
}
inline Pairs SetEven(const void* p) {
  uint16_t even;
  __builtin_memcpy(&even, p, sizeof even);
  return SetInt(even);
}
inline Lanes Even(Pairs x) {
  return FromBits({_mm256_slli_epi32(x.low, 16), _mm256_slli_epi32(x.high, 16)});
}
inline Lanes Odd(Pairs x) {
  const __m256i mask = _mm256_set1_epi32(static_cast<int32_t>(0xFFFF0000));
  return FromBits({_mm256_and_si256(x.low, mask), _mm256_and_si256(x.high, mask)});
}

}  // namespace
}  // namespace ballast
