// Sizes of packed panels (layout: inner_loops.h). Not for the instruction-set files.
#pragma once

#include <cstdint>

#include "kernels/cpu/inner_loops.h"
#include "kernels/cpu/number.h"
#include "kernels/device.h"

namespace ballast::cpu {

inline int64_t NumPanels(int64_t n) { return (n + kLanes - 1) / kLanes; }

inline int64_t PanelBytes(DType type, int64_t k) {
  return (type == DType::kF32 ? k : RoundUp(k, 2)) * kLanes * static_cast<int64_t>(SizeOf(type));
}

inline DotLoop DotLoopFor(const InnerLoops& loops, DType x, DType panels) {
  if (panels == DType::kF32) return loops.dot_f32_f32;
  return x == DType::kF32 ? loops.dot_f32_bf16 : loops.dot_bf16_bf16;
}

}  // namespace ballast::cpu
