// Memory of a GPU, or of an emulated one, for tests of kernels.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "tests/kernels/kernel_sets.h"

namespace ballast::cuda {

// A stream of device 0; what is enqueued has run when Wait returns.
class GpuStream {
 public:
  GpuStream() {
    EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  ~GpuStream() { EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess); }
  GpuStream(const GpuStream&) = delete;
  GpuStream& operator=(const GpuStream&) = delete;

  void Wait() const { EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess); }
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// A block of device memory with a copy of the host's bytes, exactly as long.
class GpuMemory {
 public:
  GpuMemory(const GpuStream& stream, const void* from, size_t bytes)
      : stream_(stream), bytes_(bytes) {
    EXPECT_EQ(cudaMalloc(&data_, bytes), cudaSuccess);
    EXPECT_EQ(cudaMemcpyAsync(data_, from, bytes, cudaMemcpyHostToDevice, stream.get()),
              cudaSuccess);
  }
  template <typename T>
  GpuMemory(const GpuStream& stream, const std::vector<T>& from)
      : GpuMemory(stream, from.data(), from.size() * sizeof(T)) {}
  ~GpuMemory() { EXPECT_EQ(cudaFree(data_), cudaSuccess); }
  GpuMemory(const GpuMemory&) = delete;
  GpuMemory& operator=(const GpuMemory&) = delete;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  void Read(void* to) const {
    EXPECT_EQ(cudaMemcpyAsync(to, data_, bytes_, cudaMemcpyDeviceToHost, stream_.get()),
              cudaSuccess);
    stream_.Wait();
  }

 private:
  const GpuStream& stream_;
  size_t bytes_;
  void* data_ = nullptr;
};

// A matrix in device memory, and the host's that it was made from.
class GpuMatrix {
 public:
  GpuMatrix(const GpuStream& stream, Matrix host)
      : host_(std::move(host)), memory_(stream, host_.View().data, BytesOf(host_.View())) {}

  MatView View() {
    MatView view = host_.View();
    view.data = memory_.as<void>();
    return view;
  }
  HeadsView Heads(int64_t heads) {
    HeadsView view = host_.Heads(heads);
    view.data = memory_.as<void>();
    return view;
  }
  // What is in device memory now.
  const Matrix& Read() {
    memory_.Read(host_.View().data);
    return host_;
  }

 private:
  static size_t BytesOf(const MatView& view) {
    return static_cast<size_t>((view.rows - 1) * view.stride + view.cols) * SizeOf(view.type);
  }

  Matrix host_;
  GpuMemory memory_;
};

}  // namespace ballast::cuda
