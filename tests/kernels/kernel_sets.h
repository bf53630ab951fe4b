// Fixture for tests that run on every kernel set of the CPU, and matrices to run them on.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/number.h"
#include "kernels/device.h"

namespace ballast {

inline std::vector<float> RandomFloats(int64_t n, uint32_t seed, float spread = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) value = normal(random);
  return values;
}

// A row-major matrix in f32 or bf16 whose rows lie `gap` elements apart; gaps hold NaN.
class Matrix {
 public:
  Matrix(DType type, int64_t rows, int64_t cols, int64_t gap = 0)
      : type_(type), rows_(rows), cols_(cols), stride_(cols + gap) {
    // Exactly up to the last element, so that a sanitizer sees any read past it.
    bytes_.resize(static_cast<size_t>(rows == 0 ? 0 : (rows - 1) * stride_ + cols) * SizeOf(type));
    for (int64_t i = 0; i < static_cast<int64_t>(bytes_.size() / SizeOf(type)); ++i) {
      StoreFloat(bytes_.data(), type, i, std::nanf(""));
    }
  }
  static Matrix Random(DType type, int64_t rows, int64_t cols, uint32_t seed, int64_t gap = 0,
                       float spread = 1.0f) {
    Matrix matrix(type, rows, cols, gap);
    const std::vector<float> values = RandomFloats(rows * cols, seed, spread);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c)
        matrix.Set(r, c, values[static_cast<size_t>(r * cols + c)]);
    }
    return matrix;
  }

  MatView View() { return {bytes_.data(), type_, rows_, cols_, stride_}; }
  MatView Rows(int64_t first, int64_t count) {
    return {At(static_cast<void*>(bytes_.data()), type_, first * stride_), type_, count, cols_,
            stride_};
  }
  HostMatrix Host() const { return {bytes_.data(), type_, rows_, cols_, stride_, 1}; }
  HeadsView Heads(int64_t heads) {
    return {bytes_.data(), type_, rows_, stride_, heads, cols_ / heads, cols_ / heads};
  }
  float Get(int64_t r, int64_t c) const { return LoadFloat(bytes_.data(), type_, r * stride_ + c); }
  void Set(int64_t r, int64_t c, float x) { StoreFloat(bytes_.data(), type_, r * stride_ + c, x); }
  DType type() const { return type_; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  bool operator==(const Matrix& other) const { return bytes_ == other.bytes_; }

  // "row 3, column 17: 0.5 and 0.25", the first element whose bits differ; empty if none.
  std::string Difference(const Matrix& other) const {
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = 0; c < cols_; ++c) {
        const float a = Get(r, c);
        const float b = other.Get(r, c);
        if (std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b)) continue;
        return "row " + std::to_string(r) + ", column " + std::to_string(c) + ": " +
               std::to_string(a) + " and " + std::to_string(b);
      }
    }
    return "";
  }

 private:
  DType type_;
  int64_t rows_, cols_, stride_;
  std::vector<char> bytes_;
};

// A device with a stream of its own.
class Runner {
 public:
  explicit Runner(const char* kernels, int threads = 1) : device_(FindCpuDevice(kernels)) {
    if (device_ != nullptr) stream_ = device_->create_stream(0, threads);
  }
  ~Runner() {
    if (device_ != nullptr) device_->destroy_stream(stream_);
  }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  bool missing() const { return device_ == nullptr; }
  const Device* operator->() const { return device_; }
  const Device& device() const { return *device_; }
  Stream stream() const { return stream_; }

 private:
  const Device* device_;
  Stream stream_;
};

// Device memory for as long as a test needs it.
class Memory {
 public:
  Memory(const Device& device, size_t bytes)
      : device_(device), bytes_(bytes), data_(device.allocate({}, bytes)) {}
  ~Memory() { device_.release(data_, bytes_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  const Device& device_;
  size_t bytes_;
  void* data_;
};

class Packed {
 public:
  Packed(const Runner& runner, DType type, const Matrix& weight)
      : memory_(runner.device(), runner->packed_bytes(type, weight.rows(), weight.cols())),
        matrix_{memory_.data(), type, weight.rows(), weight.cols()} {
    runner->pack(runner.stream(), weight.Host(), matrix_);
  }
  const PackedMatrix& matrix() const { return matrix_; }

 private:
  Memory memory_;
  PackedMatrix matrix_;
};

class KernelSets : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (FindCpuDevice(GetParam()) == nullptr) {
      GTEST_SKIP() << "this processor lacks what kernel set " << GetParam() << " needs";
    }
  }
  // Whether this set multiplies bf16 by bf16 in pairs, and so not as the reference does.
  bool PairsBf16() const { return std::string(FindCpuDevice(GetParam())->kernels) == "avx512"; }
};

inline constexpr const char* kKernelSets[] = {"reference", "avx2", "avx512", "avx512-nobf16"};

inline std::string NameOfSet(const ::testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  std::erase(name, '-');
  return name;
}

// The largest relative error of rounding to f32 and to bf16.
inline constexpr double kF32Rounding = 0x1p-24;
inline constexpr double kBf16Rounding = 0x1p-8;

}  // namespace ballast
