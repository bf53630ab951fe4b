// A GPU's memory for one benchmarked kernel, filled with numbers.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "kernels/device.h"

namespace ballast::bench {

// One thread. Ends the program when there is no memory left.
class GpuArena {
 public:
  // Both outlive it.
  GpuArena(const Device& device, Stream stream) : device_(device), stream_(stream) {}
  ~GpuArena();
  GpuArena(const GpuArena&) = delete;
  GpuArena& operator=(const GpuArena&) = delete;

  const Device& device() const { return device_; }
  Stream stream() const { return stream_; }

  // Numbers between -1 and 1, read as bf16 or as f32.
  void* Numbers(size_t bytes);
  MatView Matrix(DType type, int64_t rows, int64_t cols);
  HeadsView Heads(DType type, int64_t rows, int64_t heads, int64_t dim);
  // A weight matrix in the device's layout.
  PackedMatrix Weight(DType type, int64_t n, int64_t k);
  template <typename T>
  T* Upload(const std::vector<T>& values) {
    void* const data = Allocate(values.size() * sizeof(T));
    device_.upload(stream_, data, values.data(), values.size() * sizeof(T));
    return static_cast<T*>(data);
  }

 private:
  void* Allocate(size_t bytes);

  const Device& device_;
  const Stream stream_;
  std::vector<std::pair<void*, size_t>> memory_;
};

}  // namespace ballast::bench
