#include <immintrin.h>

#include "kernels/cpu/inner_loops.h"
#include "kernels/cpu/lanes_avx512.h"
// The loops are compiled once for each instruction set.
#include "kernels/cpu/vector_loops.inc"

namespace ballast {
namespace {

// A pair of k at once: vdpbf16ps.
struct Bf16ByBf16 {
  static constexpr int kStep = 2;
  static constexpr int kXBytes = 4;
  static constexpr int kWBytes = 64;

  template <int R, int P>
  static inline __attribute__((always_inline)) void Step(const RowPointers<R>& x,
                                                         const char* const (&w)[P],
                                                         Lanes (&acc)[R][P]) {
    __m512i weights[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) weights[p] = LoadPairs(w[p]);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const __m512i pair = SetPair(x[r]);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        acc[r][p] = _mm512_dpbf16_ps(acc[r][p], (__m512bh)pair, (__m512bh)weights[p]);
      }
    }
  }
  template <int R, int P>
  static inline __attribute__((always_inline)) void Tail(const RowPointers<R>& x,
                                                         const char* const (&w)[P],
                                                         Lanes (&acc)[R][P]) {
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const __m512i pair = SetEven(x[r]);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        // Zero times a stale odd half could be NaN.
        const __m512i weights = KeepEven(LoadPairs(w[p]));
        acc[r][p] = _mm512_dpbf16_ps(acc[r][p], (__m512bh)pair, (__m512bh)weights);
      }
    }
  }
};

}  // namespace

constinit const InnerLoops kAvx512Bf16Loops = LoopsNamed("avx512", Dot<Bf16ByBf16>);

}  // namespace ballast
