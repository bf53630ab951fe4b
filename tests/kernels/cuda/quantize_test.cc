// 8-bit codes against the formats' definitions, written here a second time: a value for each code,
// and the nearest of them by search.
#include "kernels/cuda/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/cuda/gpu_memory.h"

namespace ballast::cuda {
namespace {

constexpr EightBit kFormats[] = {EightBit::kInt8, EightBit::kE4M3};

float Most(EightBit format) { return format == EightBit::kInt8 ? 127.0f : 448.0f; }

// Table 1 of the specification: S.EEEE.MMM, bias 7; S.1111.111 is NaN.
float ValueOf(EightBit format, int code) {
  if (format == EightBit::kInt8) return static_cast<float>(code < 128 ? code : code - 256);
  const int exponent = code / 8 % 16;
  const int mantissa = code % 8;
  if (exponent == 15 && mantissa == 7) return std::nanf("");
  const double size =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return static_cast<float>(code < 128 ? size : -size);
}

bool IsUsed(EightBit format, int code) {
  return format == EightBit::kInt8 ? code != 128 : code % 128 != 127;
}

// The code nearest to x, the even one of two; of x's sign, where zeros have one.
int Nearest(EightBit format, float x) {
  int best = -1;
  for (int code = 0; code < 256; ++code) {
    if (!IsUsed(format, code)) continue;
    if (format == EightBit::kE4M3 && std::signbit(x) != (code >= 128)) continue;
    if (best < 0) best = code;
    const double distance = std::fabs(double{ValueOf(format, code)} - double{x});
    const double least = std::fabs(double{ValueOf(format, best)} - double{x});
    if (distance < least || (distance == least && code % 2 == 0)) best = code;
  }
  return best;
}

struct Quantized {
  std::vector<uint8_t> codes;  // [rows, stride]
  std::vector<float> scales;   // [rows, scale_stride]
  EightBitView view;           // of what was device memory
  Matrix back;
};

class Quantization : public testing::Test {
 protected:
  // To codes and back, with gaps after codes and scales.
  Quantized RoundTrip(const Matrix& x, EightBit format, int64_t group, DType back) {
    GpuMatrix gpu_x(stream_, x);
    const int64_t stride = x.cols() + 3;
    const int64_t scale_stride = GroupsOfRow(x.cols(), group) + 1;
    Quantized result{std::vector<uint8_t>(static_cast<size_t>(x.rows() * stride), 0x55),
                     std::vector<float>(static_cast<size_t>(x.rows() * scale_stride), -7.0f),
                     {},
                     Matrix(back, x.rows(), x.cols(), 2)};
    const GpuMemory codes(stream_, result.codes);
    const GpuMemory scales(stream_, result.scales);
    GpuMatrix out(stream_, result.back);
    result.view = {codes.as<uint8_t>(), format,      x.rows(), x.cols(), stride, group,
                   scales.as<float>(),  scale_stride};
    EXPECT_EQ(Quantize(stream_.get(), gpu_x.View(), result.view), cudaSuccess);
    EXPECT_EQ(Dequantize(stream_.get(), result.view, out.View()), cudaSuccess);
    codes.Read(result.codes.data());
    scales.Read(result.scales.data());
    result.back = out.Read();
    return result;
  }

  static float ScaleOf(const Quantized& result, int64_t row, int64_t col) {
    return result
        .scales[static_cast<size_t>(row * result.view.scale_stride + col / result.view.group)];
  }
  static int CodeOf(const Quantized& result, int64_t row, int64_t col) {
    return result.codes[static_cast<size_t>(row * result.view.stride + col)];
  }

  static float Rounded(DType type, float x) {
    Matrix one(type, 1, 1);
    one.Set(0, 0, x);
    return one.Get(0, 0);
  }

  static void ExpectDefinition(const Matrix& x, const Quantized& result) {
    const EightBitView& view = result.view;
    for (int64_t row = 0; row < x.rows(); ++row) {
      for (int64_t col = 0; col < view.stride; ++col) {
        if (col >= x.cols()) {
          ASSERT_EQ(CodeOf(result, row, col), 0x55) << "written past the end of row " << row;
          continue;
        }
        const int64_t first = col / view.group * view.group;
        float most = 0.0f;
        for (int64_t i = first; i < std::min(first + view.group, x.cols()); ++i) {
          most = std::max(most, std::fabs(x.Get(row, i)));
        }
        const float scale = ScaleOf(result, row, col);
        ASSERT_EQ(scale, most / Most(view.format)) << "row " << row << ", column " << col;
        const int code = CodeOf(result, row, col);
        ASSERT_EQ(code, Nearest(view.format, x.Get(row, col) / scale))
            << "row " << row << ", column " << col << ": " << x.Get(row, col);
        ASSERT_EQ(result.back.Get(row, col),
                  Rounded(result.back.type(), ValueOf(view.format, code) * scale));
      }
      ASSERT_EQ(result.scales[static_cast<size_t>((row + 1) * view.scale_stride - 1)], -7.0f);
    }
  }

  const GpuStream stream_;
};

TEST_F(Quantization, RowsAreAsTheFormatsAreDefined) {
  uint32_t seed = 0;
  for (const EightBit format : kFormats) {
    for (const DType type : {DType::kF32, DType::kBF16}) {
      for (const auto& [cols, group] :
           {std::pair{1, 1}, {33, 7}, {33, 33}, {130, 64}, {530, 512}, {700, 700}}) {
        const Matrix x = Matrix::Random(type, 3, cols, ++seed, 1, 20.0f);
        ExpectDefinition(x, RoundTrip(x, format, group, type));
      }
    }
  }
}

// With the largest value in the group the scale is 1, and every value of a code keeps it.
TEST_F(Quantization, EveryCodeRoundTrips) {
  for (const EightBit format : kFormats) {
    Matrix x(DType::kF32, 1, 256);
    for (int code = 0; code < 256; ++code) {
      x.Set(0, code, IsUsed(format, code) ? ValueOf(format, code) : Most(format));
    }
    const Quantized result = RoundTrip(x, format, 256, DType::kF32);
    EXPECT_EQ(result.scales[0], 1.0f);
    for (int code = 0; code < 256; ++code) {
      if (!IsUsed(format, code)) continue;
      EXPECT_EQ(CodeOf(result, 0, code), code);
      EXPECT_EQ(result.back.Get(0, code), x.Get(0, code));
      EXPECT_EQ(std::signbit(result.back.Get(0, code)), std::signbit(x.Get(0, code)));
    }
  }
}

// Halfway between neighbours, and the floats on both sides of it.
TEST_F(Quantization, TiesGoToTheEvenCode) {
  for (const EightBit format : kFormats) {
    std::vector<float> values = {Most(format)};
    for (int code = 0; code < 255; ++code) {
      if (!IsUsed(format, code) || !IsUsed(format, code + 1) || code == 127) continue;
      const float middle = (ValueOf(format, code) + ValueOf(format, code + 1)) / 2;
      for (const float toward : {-500.0f, middle, 500.0f}) {
        values.push_back(std::nextafter(middle, toward));
      }
    }
    Matrix x(DType::kF32, 1, static_cast<int64_t>(values.size()));
    for (size_t i = 0; i < values.size(); ++i) x.Set(0, static_cast<int64_t>(i), values[i]);
    ExpectDefinition(x, RoundTrip(x, format, x.cols(), DType::kF32));
  }
}

TEST_F(Quantization, CodesThatAreNotNumbersComeBackAsNaN) {
  const std::vector<uint8_t> codes = {0x7f, 0xff, 0x7e, 0xfe};
  const std::vector<float> scales = {1.0f};
  const GpuMemory gpu_codes(stream_, codes);
  const GpuMemory gpu_scales(stream_, scales);
  GpuMatrix out(stream_, Matrix(DType::kF32, 1, 4));
  const EightBitView view{
      gpu_codes.as<uint8_t>(), EightBit::kE4M3, 1, 4, 4, 4, gpu_scales.as<float>(), 1};
  EXPECT_EQ(Dequantize(stream_.get(), view, out.View()), cudaSuccess);
  EXPECT_TRUE(std::isnan(out.Read().Get(0, 0)));
  EXPECT_TRUE(std::isnan(out.Read().Get(0, 1)));
  EXPECT_EQ(out.Read().Get(0, 2), 448.0f);
  EXPECT_EQ(out.Read().Get(0, 3), -448.0f);
}

TEST_F(Quantization, ZerosHaveScaleAndCodesZero) {
  for (const EightBit format : kFormats) {
    Matrix x(DType::kF32, 2, 40);
    for (int64_t col = 0; col < 40; ++col) {
      x.Set(0, col, 0.0f);
      x.Set(1, col, col == 3 ? 0x1p-149f : -0.0f);  // so small that its scale is 0
    }
    const Quantized result = RoundTrip(x, format, 40, DType::kF32);
    for (int64_t row = 0; row < 2; ++row) {
      EXPECT_EQ(ScaleOf(result, row, 0), 0.0f);
      for (int64_t col = 0; col < 40; ++col) {
        EXPECT_EQ(CodeOf(result, row, col), 0);
        EXPECT_EQ(result.back.Get(row, col), 0.0f);
      }
    }
  }
}

// Scales with few bits make x / scale larger than any code, which is cut off.
TEST_F(Quantization, TheSmallestGroupsAreCutOffAtTheLargestCode) {
  for (const EightBit format : kFormats) {
    Matrix x(DType::kF32, 1, 3);
    const float most = Most(format) * 1.4f * 0x1p-149f;
    x.Set(0, 0, most);
    x.Set(0, 1, -most);
    x.Set(0, 2, 0x1p-149f);
    const Quantized result = RoundTrip(x, format, 3, DType::kF32);
    EXPECT_EQ(ScaleOf(result, 0, 0), 0x1p-149f);
    EXPECT_EQ(ValueOf(format, CodeOf(result, 0, 0)), Most(format));
    EXPECT_EQ(ValueOf(format, CodeOf(result, 0, 1)), -Most(format));
    EXPECT_EQ(ValueOf(format, CodeOf(result, 0, 2)), 1.0f);
  }
}

TEST_F(Quantization, AGroupWithNaNOrInfinityComesBackAsNaNAndNoOther) {
  for (const EightBit format : kFormats) {
    for (const DType type : {DType::kF32, DType::kBF16}) {
      for (const float bad : {std::nanf(""), -std::numeric_limits<float>::infinity()}) {
        for (const int64_t group : {20, 600}) {
          Matrix x = Matrix::Random(type, 2, 2 * group, 9);
          x.Set(1, group + 2, bad);
          const Quantized result = RoundTrip(x, format, group, type);
          for (int64_t row = 0; row < 2; ++row) {
            for (int64_t col = 0; col < 2 * group; ++col) {
              const bool is_bad = row == 1 && col >= group;
              ASSERT_EQ(std::isnan(result.back.Get(row, col)), is_bad);
              ASSERT_TRUE(!is_bad || CodeOf(result, row, col) == 0);
            }
          }
          EXPECT_TRUE(std::isnan(ScaleOf(result, 1, group)));
        }
      }
    }
  }
}

TEST_F(Quantization, NoRowsAreNoLaunchAndNoGroupIsAnError) {
  EightBitView view;
  view.group = 16;
  EXPECT_EQ(Quantize(stream_.get(), {}, view), cudaSuccess);
  EXPECT_EQ(Dequantize(stream_.get(), view, {}), cudaSuccess);
  view.group = 0;
  EXPECT_EQ(Quantize(stream_.get(), {}, view), cudaErrorInvalidValue);
  EXPECT_EQ(Dequantize(stream_.get(), view, {}), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace ballast::cuda
