// What each GPU kernel has to move and to compute, as its header states it, and how long that takes
// a GPU at least. Pure.
#pragma once

#include <cstdint>

#include "kernels/cuda/quantize.h"
#include "kernels/device.h"

namespace ballast::bench {

struct KernelWork {
  double bytes = 0;       // of memory: each operand once, in or out
  double traffic = 0;     // what its blocks read and write, most of it from L2; not less than bytes
  double f32_flops = 0;   // on the FP32 units; multiply-adds are two
  double bf16_flops = 0;  // on tensor cores
};

struct GpuLimits {
  double bytes_per_second;
  double f32_flops_per_second;
  double bf16_flops_per_second;
};

// NVIDIA H100 Tensor Core GPU datasheet, column H100 SXM: memory bandwidth 3.35 TB/s, FP32 67
// TFLOPS, BFLOAT16 tensor core 1,979 TFLOPS with sparsity, half of it without.
inline constexpr GpuLimits kH100Sxm = {3.35e12, 67e12, 989e12};

struct Floor {
  double seconds = 0;
  const char* limit = "";  // "memory", "FP32" or "tensor cores"
};
// The longest of what each limit takes alone.
Floor FloorOf(const KernelWork& work, const GpuLimits& limits);

// --- matrices: kernels/cuda/matmul.h, matmul_bf16.h, experts.h -----------------------------------
struct ProductShape {
  DType x = DType::kBF16;
  DType weight = DType::kBF16;
  DType out = DType::kF32;
  int64_t groups = 1;
  int64_t rows = 1;  // of each group
  int64_t n = 0;     // of each weight
  int64_t k = 0;
};
KernelWork WorkOfMatmul(const ProductShape& shape);
KernelWork WorkOfGateUp(const ProductShape& shape);
// All between route and combine, of `experts` experts; `gate_up` is that part of it.
KernelWork WorkOfRunExperts(const ProductShape& gate_up, int64_t experts);

// --- attention: kernels/cuda/attention.h, kv_cache.h ---------------------------------------------
struct AttentionWork {
  KvCache cache;  // data and blocks are ignored
  int64_t heads = 1;
  DType out = DType::kF32;
  int64_t sequences = 1;
  int64_t rows = 1;  // of each, the last of its keys
  int64_t keys = 1;  // of each
};
KernelWork WorkOfAttention(const AttentionWork& shape);
KernelWork WorkOfWriteKv(const KvCache& cache, int64_t rows);

// --- rows: kernels/cuda/rows.h, router.h, group_rows.h, quantize.h, sampling.h -------------------
KernelWork WorkOfEmbed(DType table, int64_t rows, int64_t cols);
KernelWork WorkOfRmsNorm(DType out, int64_t rows, int64_t cols);
KernelWork WorkOfConvert(DType x, DType out, int64_t rows, int64_t cols);
// x f32; of each head the first `rotary_dim` entries turn.
KernelWork WorkOfRope(DType out, int64_t rows, int64_t heads, int64_t dim, int64_t rotary_dim);
KernelWork WorkOfCopyRows(DType type, int64_t rows, int64_t cols);
// Without shared experts' rows.
KernelWork WorkOfCombine(int64_t rows, int64_t cols, int64_t k);
KernelWork WorkOfRoute(int64_t rows, int64_t experts, int64_t k);
KernelWork WorkOfGroupRows(int64_t choices, int64_t experts);
KernelWork WorkOfQuantize(DType x, int64_t rows, int64_t cols, int64_t group);
// Draws of whole vocabularies with a temperature, no other filter.
KernelWork WorkOfSample(int64_t rows, int64_t vocab);

}  // namespace ballast::bench
