// The tensor cores' products against products in double precision, and every row's bits alone and
// in company.
#include "kernels/cuda/matmul_bf16.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "kernels/cuda/matmul.h"
#include "tests/kernels/cuda/gpu_weight.h"

namespace ballast::cuda {
namespace {

constexpr int64_t kAligned = 8;  // elements of 16 bytes

// A number and how far from it a result may lie.
struct Bounded {
  double value = 0;
  double bound = 0;
};

// The sum of k products, each exact in float32, by k additions that lose at most the last bit of a
// partial sum (2^-23 of it: hardware may cut off where IEEE rounds).
Bounded Dot(const Matrix& x, int64_t row, int64_t x_col, const Matrix& weight, int64_t col) {
  Bounded sum;
  double size = 0;
  for (int64_t k = 0; k < weight.cols(); ++k) {
    const double product = double{x.Get(row, x_col + k)} * double{weight.Get(col, k)};
    sum.value += product;
    size += std::fabs(product);
  }
  sum.bound = static_cast<double>(weight.cols()) * 0x1p-23 * size;
  return sum;
}

// silu has slopes of at most 1.1; the steps of exp, division and product add a few roundings.
Bounded SwiGlu(const Bounded& gate, const Bounded& up) {
  const double silu = gate.value / (1 + std::exp(-gate.value));
  const double silu_bound = 1.1 * gate.bound + 8 * kF32Rounding * std::fabs(silu);
  return {silu * up.value, silu_bound * (std::fabs(up.value) + up.bound) +
                               std::fabs(silu) * up.bound +
                               2 * kF32Rounding * std::fabs(silu * up.value)};
}

void ExpectNear(float got, const Bounded& want, DType type, int64_t row, int64_t col) {
  const double rounding = type == DType::kF32 ? kF32Rounding : kBf16Rounding;
  ASSERT_NEAR(got, want.value,
              want.bound + rounding * (std::fabs(want.value) + want.bound) + 0x1p-126)
      << "row " << row << ", column " << col;
}

class GpuMatmulBf16 : public testing::Test {
 protected:
  std::unique_ptr<Weight> MakeWeight(int64_t n, int64_t k) {
    return std::make_unique<Weight>(cpu_, stream_, DType::kBF16, n, k, ++seed_);
  }

  Matrix Multiply(const Matrix& x, const std::vector<MatmulGroup>& groups, const Matrix& before,
                  bool accumulate) {
    GpuMatrix gpu_x(stream_, x);
    GpuMatrix out(stream_, before);
    const auto plan = PlanTiles(DType::kBF16, groups.data(), static_cast<int64_t>(groups.size()));
    const GpuMemory list(stream_, plan.groups);
    EXPECT_EQ(Matmul(stream_.get(), gpu_x.View(), plan,
                     groups.size() == 1 ? nullptr : list.as<TiledGroup>(), out.View(), accumulate),
              cudaSuccess);
    return out.Read();
  }

  Matrix Gated(const Matrix& x, const std::vector<GateUpGroup>& groups, DType type, int64_t n) {
    GpuMatrix gpu_x(stream_, x);
    GpuMatrix out(stream_, Matrix(type, x.rows(), n, 1));
    const auto plan = PlanTiles(DType::kBF16, groups.data(), static_cast<int64_t>(groups.size()));
    const GpuMemory list(stream_, plan.groups);
    EXPECT_EQ(GateUp(stream_.get(), gpu_x.View(), plan,
                     groups.size() == 1 ? nullptr : list.as<TiledGroup>(), out.View()),
              cudaSuccess);
    return out.Read();
  }

  // Rows [begin, begin + count) of x as a matrix of their own, rows `gap` apart.
  static Matrix Cut(const Matrix& x, int64_t begin, int64_t count, int64_t gap) {
    Matrix cut(x.type(), count, x.cols(), gap);
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t c = 0; c < x.cols(); ++c) cut.Set(r, c, x.Get(begin + r, c));
    }
    return cut;
  }

  static void ExpectSameRow(const Matrix& got, int64_t got_row, const Matrix& want, int64_t row) {
    EXPECT_EQ(Cut(got, got_row, 1, 0).Difference(Cut(want, row, 1, 0)), "") << "of row " << row;
  }

  const Runner cpu_{"reference"};
  const GpuStream stream_;
  uint32_t seed_ = 0;
};

TEST_F(GpuMatmulBf16, IsTheProductWithinItsRoundings) {
  for (const DType type : {DType::kF32, DType::kBF16}) {
    for (const int64_t rows : {1, 7, 33, 130}) {
      for (const auto& [n, k] : {std::pair{1, 1}, {15, 17}, {130, 100}, {33, 450}}) {
        const auto weight = MakeWeight(n, k);
        const Matrix x = Matrix::Random(DType::kBF16, rows, k, ++seed_, kAligned - k % kAligned);
        const Matrix out =
            Multiply(x, {{weight->gpu(), 0, rows, 0, 0}}, Matrix(type, rows, n, 3), false);
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < n; ++c) {
            ExpectNear(out.Get(r, c), Dot(x, r, 0, weight->host(), c), type, r, c);
          }
        }
      }
    }
  }
}

TEST_F(GpuMatmulBf16, AccumulatesTheWholeProductOnce) {
  const auto weight = MakeWeight(70, 90);
  for (const int64_t rows : {7, 33}) {
    const Matrix x = Matrix::Random(DType::kBF16, rows, 90, ++seed_);
    const Matrix before = Matrix::Random(DType::kF32, rows, 70, ++seed_);
    const std::vector<MatmulGroup> groups = {{weight->gpu(), 0, rows, 0, 0}};
    const Matrix product = Multiply(x, groups, before, false);
    const Matrix out = Multiply(x, groups, before, true);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < 70; ++c) {
        ASSERT_EQ(out.Get(r, c), before.Get(r, c) + product.Get(r, c));
      }
    }
  }
}

TEST_F(GpuMatmulBf16, GateUpIsSwiGluWithinItsRoundings) {
  for (const DType type : {DType::kF32, DType::kBF16}) {
    for (const int64_t rows : {7, 33}) {
      const auto gate = MakeWeight(75, 100);
      const auto up = MakeWeight(75, 100);
      const Matrix x = Matrix::Random(DType::kBF16, rows + 2, 100, ++seed_, 4, 0.3f);
      const Matrix out = Gated(
          x, {{gate->gpu(), up->gpu(), 0, rows}, {up->gpu(), gate->gpu(), rows, 2}}, type, 75);
      for (int64_t r = 0; r < rows + 2; ++r) {
        const Matrix& gates = (r < rows ? gate : up)->host();
        const Matrix& ups = (r < rows ? up : gate)->host();
        for (int64_t c = 0; c < 75; ++c) {
          ExpectNear(out.Get(r, c), SwiGlu(Dot(x, r, 0, gates, c), Dot(x, r, 0, ups, c)), type, r,
                     c);
        }
      }
    }
  }
}

// Groups of columns, whose x and out begin anywhere.
TEST_F(GpuMatmulBf16, GroupsOfColumnsAreTheirProducts) {
  const auto first = MakeWeight(20, 30);
  const auto second = MakeWeight(40, 30);
  const Matrix x = Matrix::Random(DType::kBF16, 9, 60, ++seed_);
  const Matrix out = Multiply(x, {{first->gpu(), 0, 9, 0, 0}, {second->gpu(), 0, 9, 30, 20}},
                              Matrix(DType::kF32, 9, 60), false);
  for (int64_t r = 0; r < 9; ++r) {
    for (int64_t c = 0; c < 60; ++c) {
      const Bounded want =
          c < 20 ? Dot(x, r, 0, first->host(), c) : Dot(x, r, 30, second->host(), c - 20);
      ExpectNear(out.Get(r, c), want, DType::kF32, r, c);
    }
  }
}

// Alone, among 7, among 33 (the other tile), in the second of two groups, with x not aligned.
TEST_F(GpuMatmulBf16, ARowsBitsDoNotDependOnItsCompany) {
  constexpr int64_t kN = 70;
  constexpr int64_t kK = 149;
  constexpr int64_t kGap = 3;  // to a multiple of 16 bytes
  const auto weight = MakeWeight(kN, kK);
  const auto other = MakeWeight(kN, kK);
  const Matrix x = Matrix::Random(DType::kBF16, 33, kK, ++seed_, kGap);
  const auto product = [&](const Matrix& rows, const std::vector<MatmulGroup>& groups) {
    return Multiply(rows, groups, Matrix(DType::kF32, rows.rows(), kN), false);
  };
  const Matrix all = product(x, {{weight->gpu(), 0, 33, 0, 0}});
  const Matrix seven = product(Cut(x, 10, 7, kGap), {{weight->gpu(), 0, 7, 0, 0}});
  const Matrix unaligned = product(Cut(x, 0, 33, kGap + 1), {{weight->gpu(), 0, 33, 0, 0}});
  const Matrix in_groups = product(
      x, {{other->gpu(), 0, 12, 0, 0}, {weight->gpu(), 12, 16, 0, 0}, {other->gpu(), 28, 5, 0, 0}});
  EXPECT_EQ(unaligned.Difference(all), "");
  for (const int64_t row : {0, 10, 13, 16, 32}) {
    ExpectSameRow(product(Cut(x, row, 1, kGap), {{weight->gpu(), 0, 1, 0, 0}}), 0, all, row);
    ExpectSameRow(product(Cut(x, row, 1, kGap + 1), {{weight->gpu(), 0, 1, 0, 0}}), 0, all, row);
  }
  for (int64_t row = 10; row < 17; ++row) ExpectSameRow(seven, row - 10, all, row);
  for (int64_t row = 12; row < 28; ++row) ExpectSameRow(in_groups, row, all, row);
}

TEST_F(GpuMatmulBf16, ARowsGatedBitsDoNotDependOnItsCompany) {
  constexpr int64_t kN = 70;
  const auto gate = MakeWeight(kN, 150);
  const auto up = MakeWeight(kN, 150);
  const Matrix x = Matrix::Random(DType::kBF16, 33, 150, ++seed_, 2, 0.2f);
  const Matrix all = Gated(x, {{gate->gpu(), up->gpu(), 0, 33}}, DType::kF32, kN);
  const Matrix groups = Gated(
      x, {{up->gpu(), gate->gpu(), 0, 20}, {gate->gpu(), up->gpu(), 20, 13}}, DType::kF32, kN);
  for (const int64_t row : {0, 16, 25, 32}) {
    const Matrix alone =
        Gated(Cut(x, row, 1, 2), {{gate->gpu(), up->gpu(), 0, 1}}, DType::kF32, kN);
    ExpectSameRow(alone, 0, all, row);
    if (row >= 20) ExpectSameRow(groups, row, all, row);
  }
}

}  // namespace
}  // namespace ballast::cuda
