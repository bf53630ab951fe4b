#include <immintrin.h>

#include "kernels/cpu/inner_loops.h"
#include "kernels/cpu/lanes_avx512.h"
// The loops are compiled once for each instruction set.
#include "kernels/cpu/vector_dot.inc"
#include "kernels/cpu/vector_rows.inc"

namespace ballast {

const InnerLoops kAvx512Loops = {
    .name = "avx512-nobf16",
    .max_rows = kTileRows,
    .panels = kPanelsByRows,
    .dot_f32_f32 = Dot<F32ByF32>,
    .dot_f32_bf16 = Dot<ByWidenedBf16<F32Pair>>,
    .dot_bf16_bf16 = Dot<ByWidenedBf16<Bf16Pair>>,
    .round = Round,
    .add = AddTo,
    .rms_norm = RmsNorm,
    .swiglu = SwigluRow,
    .sigmoid = SigmoidRow,
    .divide = Divide,
    .exponentials = Exponentials,
    .merge = Merge,
    .combine = Combine,
};

}  // namespace ballast
