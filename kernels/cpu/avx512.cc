#include <immintrin.h>

#include "kernels/cpu/inner_loops.h"
#include "kernels/cpu/lanes_avx512.h"
// The loops are compiled once for each instruction set.
#include "kernels/cpu/vector_loops.inc"

namespace ballast {

constinit const InnerLoops kAvx512Loops = LoopsNamed("avx512-nobf16", Dot<ByWidenedBf16<Bf16Pair>>);

}  // namespace ballast
