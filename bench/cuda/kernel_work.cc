#include "bench/cuda/kernel_work.h"

#include <algorithm>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/tile_plan.h"

namespace ballast::bench {
namespace {

using cuda::ProductKernel;
using cuda::TileShape;

double Count(int64_t a, int64_t b = 1, int64_t c = 1) {
  return static_cast<double>(a) * static_cast<double>(b) * static_cast<double>(c);
}

int64_t Pieces(int64_t total, int64_t size) { return (total + size - 1) / size; }

double Bytes(DType type) { return static_cast<double>(SizeOf(type)); }

// A kernel that reads and writes everything once.
KernelWork Streamed(double bytes, double flops) { return {bytes, bytes, flops, 0}; }

// One after another.
KernelWork Sum(const KernelWork& a, const KernelWork& b) {
  return {a.bytes + b.bytes, a.traffic + b.traffic, a.f32_flops + b.f32_flops,
          a.bf16_flops + b.bf16_flops};
}

// `weights`: matrices that each group multiplies with.
KernelWork WorkOfProducts(const ProductShape& s, int weights, bool gate_up) {
  const ProductKernel kernel = cuda::ChooseKernel(s.x, s.rows);
  const TileShape tile = cuda::ShapeOf(kernel, gate_up);
  const double x = Count(s.groups, s.rows, s.k) * Bytes(s.x);
  const double weight = weights * Count(s.groups, s.n, s.k) * Bytes(s.weight);
  const double out = Count(s.groups, s.rows, s.n) * Bytes(s.out);
  const double flops = 2 * weights * Count(s.groups, s.rows) * Count(s.n, s.k);
  KernelWork work;
  work.bytes = x + weight + out;
  work.traffic =
      x * Count(Pieces(s.n, tile.cols)) + weight * Count(Pieces(s.rows, tile.rows)) + out;
  (kernel == ProductKernel::kExact ? work.f32_flops : work.bf16_flops) = flops;
  return work;
}

}  // namespace

Floor FloorOf(const KernelWork& work, const GpuLimits& limits) {
  const Floor floors[] = {{work.bytes / limits.bytes_per_second, "memory"},
                          {work.f32_flops / limits.f32_flops_per_second, "FP32"},
                          {work.bf16_flops / limits.bf16_flops_per_second, "tensor cores"}};
  return *std::max_element(std::begin(floors), std::end(floors),
                           [](const Floor& a, const Floor& b) { return a.seconds < b.seconds; });
}

KernelWork WorkOfMatmul(const ProductShape& shape) { return WorkOfProducts(shape, 1, false); }

KernelWork WorkOfGateUp(const ProductShape& shape) { return WorkOfProducts(shape, 2, true); }

KernelWork WorkOfRunExperts(const ProductShape& gate_up, int64_t experts) {
  const int64_t choices = gate_up.groups * gate_up.rows;
  const ProductShape down = {gate_up.x,    gate_up.weight, DType::kF32, gate_up.groups,
                             gate_up.rows, gate_up.k,      gate_up.n};
  return Sum(Sum(WorkOfGroupRows(choices, experts), WorkOfCopyRows(gate_up.x, choices, gate_up.k)),
             Sum(WorkOfGateUp(gate_up), WorkOfMatmul(down)));
}

KernelWork WorkOfAttention(const AttentionWork& s) {
  const KvCache& cache = s.cache;
  const cuda::AttentionPlan plan = cuda::PlanAttention(
      cache, {s.sequences * s.rows, s.heads, s.sequences, static_cast<int32_t>(s.keys), 0});
  const int64_t values = cache.v_in_k ? 0 : cache.v_dim;
  const double kv_row = Count(cache.kv_heads, cache.k_dim + values) * Bytes(cache.type);
  const double q_and_out =
      Count(s.sequences, s.rows, s.heads) *
      (Count(cache.k_dim) * Bytes(cache.type) + Count(cache.v_dim) * Bytes(s.out));
  // Keys that rows see: the first all but rows - 1, the last all.
  const double seen = Count(s.sequences, s.rows) * (Count(2 * s.keys - s.rows + 1) / 2);
  const double tiles_a_row = Count(Pieces(s.rows * (s.heads / cache.kv_heads), plan.tile_rows)) /
                             static_cast<double>(s.rows);
  KernelWork work;
  work.bytes = Count(s.sequences, s.keys) * kv_row + q_and_out;
  work.traffic = seen * tiles_a_row * kv_row + q_and_out;
  if (plan.splits > 0) {
    const double record = Count(cache.v_dim + 2) * sizeof(float);
    work.traffic += 2 * Count(s.sequences, s.rows, s.heads) *
                    Count(Pieces(s.keys, kAttentionPartition)) * record;
  }
  work.traffic = std::max(work.traffic, work.bytes);
  (plan.tensor_cores ? work.bf16_flops : work.f32_flops) =
      2 * seen * Count(s.heads, cache.k_dim + cache.v_dim);
  return work;
}

KernelWork WorkOfWriteKv(const KvCache& cache, int64_t rows) {
  const int64_t values = cache.v_in_k ? 0 : cache.v_dim;
  return Streamed(
      Count(rows, cache.kv_heads, cache.k_dim + values) * (sizeof(float) + Bytes(cache.type)), 0);
}

KernelWork WorkOfEmbed(DType table, int64_t rows, int64_t cols) {
  return Streamed(Count(rows, cols) * (Bytes(table) + sizeof(float)), 0);
}

// A square and an addition, then two products.
KernelWork WorkOfRmsNorm(DType out, int64_t rows, int64_t cols) {
  return Streamed(Count(rows, cols) * (sizeof(float) + Bytes(out)) + Count(cols) * sizeof(float),
                  4 * Count(rows, cols));
}

KernelWork WorkOfConvert(DType x, DType out, int64_t rows, int64_t cols) {
  return Streamed(Count(rows, cols) * (Bytes(x) + Bytes(out)), 0);
}

// Each entry that turns is two products and an addition.
KernelWork WorkOfRope(DType out, int64_t rows, int64_t heads, int64_t dim, int64_t rotary_dim) {
  return Streamed(Count(rows, heads, dim) * (sizeof(float) + Bytes(out)) +
                      Count(rows, rotary_dim) * sizeof(float),
                  3 * Count(rows, heads, rotary_dim));
}

KernelWork WorkOfCopyRows(DType type, int64_t rows, int64_t cols) {
  return Streamed(2 * Count(rows, cols) * Bytes(type) + Count(rows) * sizeof(void*), 0);
}

KernelWork WorkOfCombine(int64_t rows, int64_t cols, int64_t k) {
  return Streamed(
      Count(rows, cols, k + 2) * sizeof(float) + Count(rows, k) * (sizeof(void*) + sizeof(float)),
      (2 * Count(k) + 1) * Count(rows, cols));
}

// Some 10 operations to a score, and one for each expert and choice.
KernelWork WorkOfRoute(int64_t rows, int64_t experts, int64_t k) {
  return Streamed(
      Count(rows, experts) * sizeof(float) + Count(rows, k) * (sizeof(int32_t) + sizeof(float)),
      Count(rows, experts, 10 + k));
}

KernelWork WorkOfGroupRows(int64_t choices, int64_t experts) {
  return Streamed(Count(choices, 2 * 4 + 16) + Count(experts, 160 + 24), 0);
}

// The largest, the quotient, its rounding and bounds.
KernelWork WorkOfQuantize(DType x, int64_t rows, int64_t cols, int64_t group) {
  return Streamed(Count(rows, cols) * (Bytes(x) + 1) +
                      Count(rows, cuda::GroupsOfRow(cols, group)) * sizeof(float),
                  6 * Count(rows, cols));
}

// Twice over the row, with an exponential in the draw.
KernelWork WorkOfSample(int64_t rows, int64_t vocab) {
  KernelWork work = Streamed(Count(rows) * (sizeof(SampleParameters) + sizeof(int32_t)), 0);
  work.traffic += 2 * Count(rows, vocab) * sizeof(float);
  work.bytes += Count(rows, vocab) * sizeof(float);
  work.f32_flops = Count(rows, vocab, 2 * 10 + 40);
  return work;
}

}  // namespace ballast::bench
