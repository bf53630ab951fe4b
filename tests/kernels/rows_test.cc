#include <gtest/gtest.h>

#include "tests/kernels/kernel_sets.h"

namespace ballast {
namespace {

class Rows : public KernelSets {};
INSTANTIATE_TEST_SUITE_P(All, Rows, ::testing::ValuesIn(kKernelSets), NameOfSet);

Matrix RmsNorm(const Runner& runner, Matrix x, const std::vector<float>& weight, DType out_type) {
  Matrix out(out_type, x.rows(), x.cols(), 2);
  runner->rms_norm(runner.stream(), x.View(), weight.data(), 1e-6f, out.View());
  return out;
}

TEST_P(Rows, RmsNormEqualsFloat64AndTheReference) {
  const Runner runner(GetParam(), 2);
  const Runner reference("reference");
  for (const int64_t cols : {1, 15, 16, 33, 64, 1000}) {
    const Matrix x = Matrix::Random(DType::kF32, 9, cols, 1, 3);
    const std::vector<float> weight = RandomFloats(cols, 2);
    const Matrix out = RmsNorm(runner, x, weight, DType::kF32);
    const Matrix rounded = RmsNorm(runner, x, weight, DType::kBF16);
    EXPECT_EQ(out.Difference(RmsNorm(reference, x, weight, DType::kF32)), "");
    EXPECT_EQ(rounded.Difference(RmsNorm(reference, x, weight, DType::kBF16)), "");
    for (int64_t r = 0; r < 9; ++r) {
      double squares = 0;
      for (int64_t c = 0; c < cols; ++c) squares += static_cast<double>(x.Get(r, c)) * x.Get(r, c);
      const double scale = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-6);
      for (int64_t c = 0; c < cols; ++c) {
        const double exact = x.Get(r, c) * scale * weight[static_cast<size_t>(c)];
        // A sum of cols/16 + 5 roundings, halved by the root, and six more.
        const double roundings = static_cast<double>(cols) / 32 + 9;
        ASSERT_NEAR(out.Get(r, c), exact, roundings * kF32Rounding * std::abs(exact));
        ASSERT_EQ(rounded.Get(r, c), FromBf16(ToBf16(out.Get(r, c))));
      }
    }
  }
}

TEST_P(Rows, RmsNormWorksInPlace) {
  const Runner runner(GetParam());
  Matrix x = Matrix::Random(DType::kF32, 3, 50, 3);
  const std::vector<float> weight = RandomFloats(50, 4);
  const Matrix out = RmsNorm(runner, x, weight, DType::kF32);
  runner->rms_norm(runner.stream(), x.View(), weight.data(), 1e-6f, x.View());
  for (int64_t c = 0; c < 50; ++c) EXPECT_EQ(x.Get(2, c), out.Get(2, c));
}

TEST_P(Rows, ConvertRoundsToTheNearestEven) {
  const Runner runner(GetParam());
  const std::pair<uint32_t, uint16_t> cases[] = {
      {0x3F800000, 0x3F80}, {0x3F808000, 0x3F80}, {0x3F808001, 0x3F81}, {0x3F818000, 0x3F82},
      {0x3F817FFF, 0x3F81}, {0x7F7FFFFF, 0x7F80}, {0x7F800000, 0x7F80}, {0xFF800000, 0xFF80},
      {0x80000000, 0x8000}, {0x00000001, 0x0000}, {0x00008001, 0x0001}, {0x807FFFFF, 0x8080}};
  for (const int64_t copies : {1, 2, 5}) {  // whole vectors and parts
    const int64_t n = copies * 12;
    std::vector<float> x(static_cast<size_t>(n));
    std::vector<uint16_t> out(static_cast<size_t>(n));
    for (size_t i = 0; i < x.size(); ++i) x[i] = std::bit_cast<float>(cases[i % 12].first);
    runner->convert(runner.stream(), {x.data(), DType::kF32, 1, n, n},
                    {out.data(), DType::kBF16, 1, n, n});
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(out[i], cases[i % 12].second) << i % 12;
  }
}

TEST_P(Rows, ConvertKeepsNaNAndWidensExactly) {
  const Runner runner(GetParam());
  std::vector<float> nan(20, std::bit_cast<float>(0x7F800001u));
  std::vector<uint16_t> rounded(20);
  std::vector<float> widened(20);
  runner->convert(runner.stream(), {nan.data(), DType::kF32, 1, 20, 20},
                  {rounded.data(), DType::kBF16, 1, 20, 20});
  runner->convert(runner.stream(), {rounded.data(), DType::kBF16, 1, 20, 20},
                  {widened.data(), DType::kF32, 1, 20, 20});
  for (const float x : widened) EXPECT_TRUE(std::isnan(x));
  const uint16_t halves[] = {0x3C00, 0xC000, 0x0001, 0x7BFF, 0x7C00, 0x8000, 0x03FF};
  const float floats[] = {1.0f, -2.0f, 0x1p-24f, 65504.0f, INFINITY, -0.0f, 0x1.ff8p-15f};
  runner->convert(runner.stream(), {const_cast<uint16_t*>(halves), DType::kF16, 1, 7, 7},
                  {widened.data(), DType::kF32, 1, 7, 7});
  for (size_t i = 0; i < 7; ++i) EXPECT_EQ(widened[i], floats[i]);
}

TEST_P(Rows, ClampLimitsBothSides) {
  const Runner runner(GetParam());
  Matrix x(DType::kF32, 1, 4);
  const float values[] = {-9.0f, -1.0f, 2.0f, 9.0f};
  for (int64_t i = 0; i < 4; ++i) x.Set(0, i, values[i]);
  runner->clamp(runner.stream(), x.View(), 3.0f);
  const float expected[] = {-3.0f, -1.0f, 2.0f, 3.0f};
  for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(x.Get(0, i), expected[i]);
}

Matrix CosSin(int64_t rows, int64_t rotary_dim) {
  Matrix table(DType::kF32, rows, rotary_dim);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < rotary_dim / 2; ++i) {
      const float angle = static_cast<float>(r * 7 + i);
      table.Set(r, i, std::cos(angle));
      table.Set(r, rotary_dim / 2 + i, std::sin(angle));
    }
  }
  return table;
}

TEST_P(Rows, RopeTurnsPairsAndCopiesTheRest) {
  const Runner runner(GetParam(), 2);
  const int64_t rotary = 10;
  const int64_t half = rotary / 2;
  Matrix x = Matrix::Random(DType::kF32, 5, 3 * 23, 5);
  Matrix table = CosSin(5, rotary);
  for (const bool interleaved : {false, true}) {
    for (const DType type : {DType::kF32, DType::kBF16}) {
      Matrix out(type, 5, 3 * 23);
      runner->rope(runner.stream(), x.Heads(3), static_cast<float*>(table.View().data), rotary,
                   interleaved, out.Heads(3));
      const auto expect = [&](int64_t r, int64_t c, float value) {
        ASSERT_EQ(out.Get(r, c), type == DType::kF32 ? value : FromBf16(ToBf16(value)));
      };
      for (int64_t r = 0; r < 5; ++r) {
        for (int64_t head = 0; head < 3 * 23; head += 23) {
          for (int64_t i = 0; i < half; ++i) {
            const float a = x.Get(r, head + (interleaved ? 2 * i : i));
            const float b = x.Get(r, head + (interleaved ? 2 * i + 1 : i + half));
            const float c = table.Get(r, i);
            const float s = table.Get(r, half + i);
            expect(r, head + i, a * c - b * s);
            expect(r, head + half + i, b * c + a * s);
          }
          for (int64_t d = rotary; d < 23; ++d) expect(r, head + d, x.Get(r, head + d));
        }
      }
    }
  }
}

TEST_P(Rows, RopeWorksInPlace) {
  const Runner runner(GetParam());
  Matrix x = Matrix::Random(DType::kF32, 4, 2 * 16, 6);
  Matrix table = CosSin(4, 8);
  Matrix out(DType::kF32, 4, 2 * 16);
  const float* const cos_sin = static_cast<float*>(table.View().data);
  runner->rope(runner.stream(), x.Heads(2), cos_sin, 8, false, out.Heads(2));
  runner->rope(runner.stream(), x.Heads(2), cos_sin, 8, false, x.Heads(2));
  EXPECT_EQ(x.Difference(out), "");
}

TEST_P(Rows, CopyRowsGathers) {
  const Runner runner(GetParam(), 2);
  for (const DType type : {DType::kF32, DType::kBF16}) {
    Matrix x = Matrix::Random(type, 6, 21, 7, 2);
    Matrix out(type, 4, 21);
    const int32_t source[] = {5, 0, 5, 3};
    std::vector<const void*> rows;
    for (const int32_t row : source) {
      rows.push_back(static_cast<const char*>(x.View().data) +
                     row * x.View().stride * static_cast<int64_t>(SizeOf(type)));
    }
    runner->copy_rows(runner.stream(), rows.data(), out.View());
    for (int64_t r = 0; r < 4; ++r) {
      for (int64_t c = 0; c < 21; ++c) ASSERT_EQ(out.Get(r, c), x.Get(source[r], c));
    }
  }
}

TEST_P(Rows, CombineAddsSlotsInOrderThenShared) {
  const Runner runner(GetParam(), 2);
  for (const int64_t cols : {1, 40}) {
    Matrix y = Matrix::Random(DType::kF32, 9, cols, 8);
    Matrix shared = Matrix::Random(DType::kF32, 3, cols, 9);
    const int32_t row_of[] = {8, 0, 1, 2, 3, 4, 7, 6, 5};
    const std::vector<float> weights = RandomFloats(9, 10);
    std::vector<const float*> rows;
    for (const int32_t row : row_of) {
      rows.push_back(static_cast<const float*>(y.View().data) + row * y.View().stride);
    }
    for (const bool with_shared : {false, true}) {
      Matrix out = Matrix::Random(DType::kF32, 3, cols, 11);
      const Matrix before = out;
      runner->combine(runner.stream(), rows.data(), weights.data(), 3,
                      with_shared ? shared.View() : MatView{}, out.View());
      for (int64_t t = 0; t < 3; ++t) {
        for (int64_t c = 0; c < cols; ++c) {
          float sum = 0.0f;
          for (int64_t j = t * 3; j < t * 3 + 3; ++j) {
            sum = std::fma(weights[static_cast<size_t>(j)], y.Get(row_of[j], c), sum);
          }
          if (with_shared) sum += shared.Get(t, c);
          ASSERT_EQ(out.Get(t, c), before.Get(t, c) + sum);
        }
      }
    }
  }
}

}  // namespace
}  // namespace ballast
