// The inner loops of one kernel set: what is written once per instruction set.
//
// Everything else (tiling, threads, layouts) is plain C++ and shared. This header is all that an
// instruction-set file may include beside <immintrin.h> and the shared loops, so it defines no
// functions: an inline function compiled there could be linked into code for older machines.
//
// Every set computes the same operations in the same order, so results are equal to the bit, but
// for dot_bf16_bf16 of "avx512", which adds k pairs with vdpbf16ps.
#pragma once

#include <cstdint>

namespace ballast {

// Outputs of a packed panel, and lanes of every interleaved sum.
inline constexpr int64_t kLanes = 16;
// The largest register tile of any set, and the most panels that a set wants at once.
inline constexpr int64_t kMaxTileRows = 12;
inline constexpr int64_t kMaxTilePanels = 8;

// out[r, 16 p + lane] = sum over k of x[r, k] * panel p [k, lane], one chain in k order from zero,
// or from what `out` holds with `accumulate`, so that k may be cut without changing a bit.
//
// A panel holds 16 outputs: f32 as [k][16], bf16 as [ceil(k/2)][16][2] (k even, k odd side by
// side). k may be cut into segments of `segment_k` (even) that lie apart: segment s of panel p is
// at segments[s] + panel_offsets[p] bytes. Never reads past the k-th element of a row of x; the odd
// half of a last pair does not take part.
struct DotTile {
  const void* x = nullptr;  // [rows, k]
  int64_t x_stride = 0;     // elements
  int64_t rows = 0;         // 1 .. max_rows
  const char* const* segments = nullptr;
  int64_t segment_k = 0;
  int64_t k = 0;
  const int64_t* panel_offsets = nullptr;  // [panels]
  int64_t panels = 0;
  float* out = nullptr;    // [rows, 16 panels]
  int64_t out_stride = 0;  // elements
  bool accumulate = false;
  // A hint for prefetching: bytes from the end of a panel to the one that takes its place in the
  // next call.
  int64_t jump = 0;
};

using DotLoop = void (*)(const DotTile& tile);

struct InnerLoops {
  const char* name;
  int64_t max_rows;       // of a DotTile
  const uint8_t* panels;  // [max_rows + 1]: panels that a tile of so many rows works on at once
  DotLoop dot_f32_f32;    // x f32, panels f32
  DotLoop dot_f32_bf16;   // x f32, panels bf16
  DotLoop dot_bf16_bf16;  // x bf16, panels bf16

  // Where `out` is void*, it is bf16 with `to_bf16` set and f32 otherwise.
  void (*round)(const float* x, int64_t n, uint16_t* out);  // to bf16, nearest even
  void (*add)(const float* x, int64_t n, float* out);       // out += x
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, bool to_bf16,
                   void* out);
  void (*swiglu)(const float* gate, const float* up, int64_t n, bool to_bf16, void* out);
  void (*sigmoid)(const float* x, int64_t n, float* out);
  // out[i] = x[i] / divisor.
  void (*divide)(const float* x, int64_t n, float divisor, bool to_bf16, void* out);
  // Over the scores s[begin, end): max = max(scale * s), s = exp(scale * s - max), sum = the
  // 16-lane sum of them, where s[0] is lane 0. Scores of the first 16 that lie before `begin`
  // become 0. With `rounded` the exponentials go there as bf16 instead.
  void (*exponentials)(float* s, int64_t begin, int64_t end, float scale, uint16_t* rounded,
                       float* max, float* sum);
  // Folds a partition (part_max, part_sum, part) into the running (max, sum, out):
  //   top = max(max, part_max); a = exp(max - top); b = exp(part_max - top); max = top
  //   sum = fma(part_sum, b, sum * a); out[i] = fma(part[i], b, out[i] * a)
  void (*merge)(float part_max, float part_sum, const float* part, int64_t n, float* max,
                float* sum, float* out);
  // s = 0; s = fma(weights[j], rows[j][i], s) for j = 0 .. k-1; then s += shared[i] if there is
  // one; out[i] += s.
  void (*combine)(const float* const* rows, const float* weights, int64_t k, const float* shared,
                  int64_t n, float* out);
  // The largest of x, -inf when there is none; `*finite`: none of them is NaN or infinite. The
  // largest means nothing when one is NaN.
  float (*largest)(const float* x, int64_t n, bool* finite);
  // out[i] = exp((x[i] - max) / temperature) * 2^40, rounded to an integer, halves to even.
  // x[i] <= max, which is finite.
  void (*sample_weights)(const float* x, int64_t n, float max, float temperature, float* out);
};

// exp(x) in f32, the same operations everywhere:
//   x = clamp(x, kExpLow, kExpHigh) (NaN stays); t = fma(x, kLog2E, kRound); n = t - kRound
//   r = fma(n, kMinusLn2Low, fma(n, kMinusLn2High, x)); p = Horner(kExp0 .. kExp5) in r by fma
//   y = fma(p, r * r, r) + 1; result = y * 2^(n >> 1) * 2^(n - (n >> 1))
// Coefficients: Cephes expf (S. Moshier). Within 1 ulp; 0 at -inf, inf at +inf.
inline constexpr float kExpLow = -104.0f;
inline constexpr float kExpHigh = 89.0f;
inline constexpr float kLog2E = 1.44269504088896341f;
inline constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
inline constexpr int32_t kRoundBits = 0x4B400000;
inline constexpr float kMinusLn2High = -0.693359375f;
inline constexpr float kMinusLn2Low = 2.12194440e-4f;
inline constexpr float kExp0 = 1.9875691500e-4f;
inline constexpr float kExp1 = 1.3981999507e-3f;
inline constexpr float kExp2 = 8.3334519073e-3f;
inline constexpr float kExp3 = 4.1665795894e-2f;
inline constexpr float kExp4 = 1.6666665459e-1f;
inline constexpr float kExp5 = 5.0000001201e-1f;

extern const InnerLoops kReferenceLoops;
extern const InnerLoops kAvx2Loops;
extern const InnerLoops kAvx512Loops;      // widens bf16
extern const InnerLoops kAvx512Bf16Loops;  // vdpbf16ps

}  // namespace ballast
