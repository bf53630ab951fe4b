// Packed weights for tests of GPU kernels.
#pragma once

#include <cstring>
#include <vector>

#include "kernels/cuda/matmul.h"
#include "tests/kernels/cuda/gpu_memory.h"

namespace ballast::cuda {

// A weight matrix on both devices.
class Weight {
 public:
  Weight(const Runner& cpu, const GpuStream& stream, DType type, int64_t n, int64_t k,
         uint32_t seed)
      : host_(Matrix::Random(type, n, k, seed)),
        cpu_(cpu, type, host_),
        gpu_(stream, Padded(host_)),
        matrix_{gpu_.as<void>(), type, n, k} {}

  const Matrix& host() const { return host_; }
  const PackedMatrix* cpu() const { return &cpu_.matrix(); }
  const PackedMatrix* gpu() const { return &matrix_; }

 private:
  // Rows PackedStride apart; what pads them is NaN.
  static std::vector<char> Padded(const Matrix& host) {
    const size_t size = SizeOf(host.type());
    const size_t stride = static_cast<size_t>(PackedStride(host.cols())) * size;
    std::vector<char> packed(static_cast<size_t>(host.rows()) * stride, '\xff');
    for (int64_t r = 0; r < host.rows(); ++r) {
      std::memcpy(packed.data() + static_cast<size_t>(r) * stride,
                  At(host.Host().data, host.type(), r * host.Host().row_stride),
                  static_cast<size_t>(host.cols()) * size);
    }
    return packed;
  }

  Matrix host_;
  Packed cpu_;
  GpuMemory gpu_;
  PackedMatrix matrix_;
};

}  // namespace ballast::cuda
