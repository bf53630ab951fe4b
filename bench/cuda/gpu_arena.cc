#include "bench/cuda/gpu_arena.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace ballast::bench {

GpuArena::~GpuArena() {
  device_.synchronize(stream_);
  for (const auto& [data, bytes] : memory_) device_.release(data, bytes);
}

void* GpuArena::Allocate(size_t bytes) {
  void* const data = device_.allocate(stream_, bytes);
  if (data == nullptr) {
    std::fprintf(stderr, "gpu_bench: no memory for %zu bytes on the GPU\n", bytes);
    std::exit(1);
  }
  memory_.emplace_back(data, bytes);
  return data;
}

void* GpuArena::Numbers(size_t bytes) {
  // bf16 of either sign with exponents 2^-8 to 2^-1; two of them are an f32 of the second's size.
  static const std::vector<uint16_t> some = [] {
    std::vector<uint16_t> numbers(size_t{1} << 19);
    std::mt19937 random(1);
    for (uint16_t& number : numbers) {
      const uint32_t bits = random();
      number = static_cast<uint16_t>((bits & 0x8000u) | ((119u + bits % 8u) << 7) |
                                     ((bits >> 16) & 0x7Fu));
    }
    return numbers;
  }();
  char* const data = static_cast<char*>(Allocate(bytes));
  size_t filled = std::min(bytes, some.size() * sizeof(some[0]));
  device_.upload(stream_, data, some.data(), filled);
  while (filled < bytes) {
    const size_t more = std::min(filled, bytes - filled);
    device_.copy(stream_, data + filled, data, more);
    filled += more;
  }
  return data;
}

MatView GpuArena::Matrix(DType type, int64_t rows, int64_t cols) {
  return {Numbers(static_cast<size_t>(rows * cols) * SizeOf(type)), type, rows, cols, cols};
}

HeadsView GpuArena::Heads(DType type, int64_t rows, int64_t heads, int64_t dim) {
  const MatView matrix = Matrix(type, rows, heads * dim);
  return {matrix.data, type, rows, heads * dim, heads, dim, dim};
}

PackedMatrix GpuArena::Weight(DType type, int64_t n, int64_t k) {
  return {Numbers(device_.packed_bytes(type, n, k)), type, n, k};
}

}  // namespace ballast::bench
