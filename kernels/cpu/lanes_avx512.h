// Sixteen floats in one AVX-512 register. For the AVX-512 files only.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/inner_loops.h"

namespace ballast {
namespace {

using Lanes = __m512;
using Ints = __m512i;
using Mask = __mmask16;

constexpr int kTileRows = 12;
// 24 accumulators leave room for weights; few rows need many panels to hide the latency of fma.
constexpr int TilePanels(int rows) { return rows <= 3 ? 8 : rows <= 6 ? 4 : 2; }

inline Lanes Zero() { return _mm512_setzero_ps(); }
inline Lanes Set(float x) { return _mm512_set1_ps(x); }
inline Lanes Load(const float* p) { return _mm512_loadu_ps(p); }
inline void Store(float* p, Lanes x) { _mm512_storeu_ps(p, x); }
inline Lanes Fma(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a, b, c); }
inline Lanes Add(Lanes a, Lanes b) { return _mm512_add_ps(a, b); }
inline Lanes Sub(Lanes a, Lanes b) { return _mm512_sub_ps(a, b); }
inline Lanes Mul(Lanes a, Lanes b) { return _mm512_mul_ps(a, b); }
inline Lanes Div(Lanes a, Lanes b) { return _mm512_div_ps(a, b); }
// a > b ? a : b and a < b ? a : b: the second when either is NaN.
inline Lanes Max(Lanes a, Lanes b) { return _mm512_max_ps(a, b); }
inline Lanes Min(Lanes a, Lanes b) { return _mm512_min_ps(a, b); }

// Lanes first <= lane < last.
inline Mask Between(int64_t first, int64_t last) {
  const uint32_t below_last = last >= 16 ? 0xFFFFu : (1u << last) - 1;
  const uint32_t below_first = first <= 0 ? 0u : (1u << first) - 1;
  return static_cast<Mask>(below_last & ~below_first);
}
inline Lanes Select(Mask mask, Lanes yes, Lanes no) { return _mm512_mask_blend_ps(mask, no, yes); }
inline Lanes LoadPart(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(Between(0, n), p); }
inline void StorePart(float* p, Lanes x, int64_t n) { _mm512_mask_storeu_ps(p, Between(0, n), x); }

inline Ints Bits(Lanes x) { return _mm512_castps_si512(x); }
inline Lanes FromBits(Ints x) { return _mm512_castsi512_ps(x); }
inline Ints SetInt(int32_t x) { return _mm512_set1_epi32(x); }
inline Ints AddInt(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
inline Ints SubInt(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
inline Ints HalfInt(Ints a) { return _mm512_srai_epi32(a, 1); }
inline Ints ToExponent(Ints a) { return _mm512_slli_epi32(a, 23); }

inline __m256i RoundLanes(Lanes x) {
  const __m512i bits = Bits(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), SetInt(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, SetInt(0x7FFF)));
  const __m512i quiet = _mm512_or_si512(bits, SetInt(0x400000));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  const __m512i kept = _mm512_mask_blend_epi32(nan, rounded, quiet);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16));
}
inline void StoreRounded(uint16_t* p, Lanes x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), RoundLanes(x));
}
inline void StoreRoundedPart(uint16_t* p, Lanes x, int64_t n) {
  _mm256_mask_storeu_epi16(p, Between(0, n), RoundLanes(x));
}

// lane j + lane j + 8, then 4, 2, 1 apart.
inline float SumLanes(Lanes x) {
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float MaxLanes(Lanes x) { return _mm512_reduce_max_ps(x); }

// Sixteen (even, odd) pairs of bf16, from a panel or one pair of x in every lane.
using Pairs = __m512i;
inline Pairs LoadPairs(const void* p) { return _mm512_loadu_si512(p); }
inline Pairs SetPair(const void* p) {
  int32_t pair;
  __builtin_memcpy(&pair, p, sizeof pair);
  return _mm512_set1_epi32(pair);
}
inline Pairs SetEven(const void* p) {
  uint16_t even;
  __builtin_memcpy(&even, p, sizeof even);
  return _mm512_set1_epi32(even);
}
inline Lanes Even(Pairs x) { return FromBits(_mm512_slli_epi32(x, 16)); }
inline Lanes Odd(Pairs x) {
  return FromBits(_mm512_and_si512(x, SetInt(static_cast<int32_t>(0xFFFF0000))));
}
inline Pairs KeepEven(Pairs x) { return _mm512_and_si512(x, SetInt(0xFFFF)); }

}  // namespace
}  // namespace ballast
