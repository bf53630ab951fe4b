#include <gtest/gtest.h>

#include "tests/kernels/kernel_sets.h"

namespace ballast {
namespace {

struct Types {
  DType x, weight, out;
};

constexpr Types kTypes[] = {
    {DType::kF32, DType::kF32, DType::kF32},   {DType::kF32, DType::kBF16, DType::kF32},
    {DType::kBF16, DType::kBF16, DType::kF32}, {DType::kF32, DType::kF32, DType::kBF16},
    {DType::kF32, DType::kBF16, DType::kBF16}, {DType::kBF16, DType::kBF16, DType::kBF16},
};

struct Shape {
  int64_t rows, n, k;
};

// Around every border: register tiles (4, 6, 12 rows), panels (16), panels at once (2, 4, 8),
// pairs.
constexpr Shape kShapes[] = {{1, 1, 1},    {1, 16, 2},   {1, 130, 63}, {2, 37, 64},   {3, 160, 17},
                             {4, 48, 33},  {5, 100, 7},  {6, 31, 128}, {7, 64, 65},   {8, 17, 96},
                             {9, 33, 40},  {10, 50, 31}, {11, 16, 20}, {12, 32, 256}, {13, 80, 19},
                             {33, 47, 75}, {64, 33, 34}, {200, 18, 9}};

Matrix Multiply(const Runner& runner, Types types, Matrix x, const Matrix& weight) {
  const Packed packed(runner, types.weight, weight);
  Matrix out(types.out, x.rows(), weight.rows(), 3);
  const MatmulGroup group{.weight = &packed.matrix(), .rows = x.rows()};
  runner->matmul(runner.stream(), x.View(), &group, 1, out.View(), false);
  return out;
}

Matrix GateUp(const Runner& runner, Types types, Matrix x, const Matrix& gate, const Matrix& up) {
  const Packed packed_gate(runner, types.weight, gate);
  const Packed packed_up(runner, types.weight, up);
  Matrix out(types.out, x.rows(), gate.rows(), 1);
  const GateUpGroup group{&packed_gate.matrix(), &packed_up.matrix(), 0, x.rows()};
  runner->gate_up(runner.stream(), x.View(), &group, 1, out.View());
  return out;
}

Matrix X(Types types, Shape shape, uint32_t seed) {
  return Matrix::Random(types.x, shape.rows, shape.k, seed, 5);
}

// Weights that their packed type holds exactly.
Matrix W(Types types, Shape shape, uint32_t seed) {
  return Matrix::Random(types.weight, shape.n, shape.k, seed);
}

class Matmul : public KernelSets {};
INSTANTIATE_TEST_SUITE_P(All, Matmul, ::testing::ValuesIn(kKernelSets), NameOfSet);

TEST_P(Matmul, EqualsFloat64WithinTheRoundingOfItsSum) {
  const Runner runner(GetParam(), 2);
  for (const Types types : kTypes) {
    for (const Shape shape : kShapes) {
      const Matrix x = X(types, shape, 1);
      const Matrix w = W(types, shape, 2);
      const Matrix out = Multiply(runner, types, x, w);
      for (int64_t r = 0; r < shape.rows; ++r) {
        for (int64_t c = 0; c < shape.n; ++c) {
          double exact = 0;
          double magnitude = 0;
          for (int64_t k = 0; k < shape.k; ++k) {
            const double product = static_cast<double>(x.Get(r, k)) * w.Get(c, k);
            exact += product;
            magnitude += std::abs(product);
          }
          // Every step rounds once (vdpbf16ps at most twice) a partial sum below `magnitude`.
          double bound = 2.02 * kF32Rounding * static_cast<double>(shape.k) * magnitude;
          if (types.out == DType::kBF16) bound += 1.01 * kBf16Rounding * std::abs(exact);
          ASSERT_NEAR(out.Get(r, c), exact, bound)
              << shape.rows << "x" << shape.n << "x" << shape.k << " at " << r << ", " << c;
        }
      }
    }
  }
}

TEST_P(Matmul, EqualsTheReferenceToTheBit) {
  const Runner runner(GetParam(), 2);
  const Runner reference("reference");
  for (const Types types : kTypes) {
    if (PairsBf16() && types.x == DType::kBF16) continue;
    for (const Shape shape : kShapes) {
      const Matrix x = X(types, shape, 3);
      const Matrix w = W(types, shape, 4);
      const Matrix v = W(types, shape, 5);
      EXPECT_EQ(Multiply(runner, types, x, w).Difference(Multiply(reference, types, x, w)), "");
      EXPECT_EQ(GateUp(runner, types, x, w, v).Difference(GateUp(reference, types, x, w, v)), "");
    }
  }
}

TEST_P(Matmul, ARowAloneEqualsTheRowInABatch) {
  const Runner runner(GetParam());
  for (const Types types : kTypes) {
    const Shape shape{37, 150, 83};
    Matrix x = X(types, shape, 6);
    const Matrix w = W(types, shape, 7);
    const Matrix v = W(types, shape, 8);
    const Matrix batch = Multiply(runner, types, x, w);
    const Matrix gated = GateUp(runner, types, x, w, v);
    for (int64_t r = 0; r < shape.rows; ++r) {
      Matrix row(types.x, 1, shape.k);
      for (int64_t k = 0; k < shape.k; ++k) row.Set(0, k, x.Get(r, k));
      const Matrix alone = Multiply(runner, types, row, w);
      const Matrix gated_alone = GateUp(runner, types, row, w, v);
      for (int64_t c = 0; c < shape.n; ++c) {
        ASSERT_EQ(alone.Get(0, c), batch.Get(r, c)) << "row " << r;
        ASSERT_EQ(gated_alone.Get(0, c), gated.Get(r, c)) << "row " << r;
      }
    }
  }
}

TEST_P(Matmul, ThreadsDoNotChangeABit) {
  for (const Types types : kTypes) {
    for (const Shape shape : {Shape{1, 700, 129}, Shape{40, 260, 64}, Shape{500, 16, 64}}) {
      const Matrix x = X(types, shape, 9);
      const Matrix w = W(types, shape, 10);
      const Matrix v = W(types, shape, 11);
      const Matrix one = Multiply(Runner(GetParam(), 1), types, x, w);
      const Matrix gated_one = GateUp(Runner(GetParam(), 1), types, x, w, v);
      for (const int threads : {2, 4}) {
        const Runner runner(GetParam(), threads);
        EXPECT_EQ(one.Difference(Multiply(runner, types, x, w)), "");
        EXPECT_EQ(gated_one.Difference(GateUp(runner, types, x, w, v)), "");
      }
    }
  }
}

TEST_P(Matmul, GroupsOfRowsTakeTheirOwnWeights) {
  const Runner runner(GetParam(), 2);
  const Types types{DType::kF32, DType::kBF16, DType::kF32};
  const int64_t counts[] = {5, 0, 1, 40, 3};
  Matrix x = Matrix::Random(types.x, 49, 35, 12);
  Matrix out(types.out, 49, 21);
  Matrix gated(types.out, 49, 21);
  std::vector<Matrix> weights;
  std::vector<Packed*> packed;
  std::vector<MatmulGroup> groups;
  std::vector<GateUpGroup> gate_groups;
  int64_t row = 0;
  for (uint32_t g = 0; g < 5; ++g) {
    weights.push_back(Matrix::Random(types.weight, 21, 35, 100 + g));
    packed.push_back(new Packed(runner, types.weight, weights.back()));
  }
  for (size_t g = 0; g < 5; ++g) {
    groups.push_back({.weight = &packed[g]->matrix(), .row_begin = row, .rows = counts[g]});
    gate_groups.push_back({&packed[g]->matrix(), &packed[(g + 1) % 5]->matrix(), row, counts[g]});
    row += counts[g];
  }
  runner->matmul(runner.stream(), x.View(), groups.data(), 5, out.View(), false);
  runner->gate_up(runner.stream(), x.View(), gate_groups.data(), 5, gated.View());
  for (size_t g = 0; g < 5; ++g) {
    Matrix part(types.x, counts[g], 35);
    for (int64_t r = 0; r < counts[g]; ++r) {
      for (int64_t k = 0; k < 35; ++k) part.Set(r, k, x.Get(groups[g].row_begin + r, k));
    }
    const Matrix alone = Multiply(runner, types, part, weights[g]);
    const Matrix gated_alone = GateUp(runner, types, part, weights[g], weights[(g + 1) % 5]);
    for (int64_t r = 0; r < counts[g]; ++r) {
      for (int64_t c = 0; c < 21; ++c) {
        ASSERT_EQ(out.Get(groups[g].row_begin + r, c), alone.Get(r, c)) << "group " << g;
        ASSERT_EQ(gated.Get(groups[g].row_begin + r, c), gated_alone.Get(r, c)) << "group " << g;
      }
    }
    delete packed[g];
  }
}

TEST_P(Matmul, GroupsOfColumnsReadAndWriteTheirOwn) {
  const Runner runner(GetParam(), 2);
  const Types types{DType::kBF16, DType::kBF16, DType::kF32};
  Matrix x = Matrix::Random(types.x, 9, 3 * 13, 14);
  Matrix out(types.out, 9, 3 * 20);
  const Matrix w = Matrix::Random(types.weight, 20, 13, 15);
  const Packed packed(runner, types.weight, w);
  std::vector<MatmulGroup> heads;
  for (int64_t h = 0; h < 3; ++h) heads.push_back({&packed.matrix(), 0, 9, h * 13, h * 20});
  runner->matmul(runner.stream(), x.View(), heads.data(), 3, out.View(), false);
  for (int64_t h = 0; h < 3; ++h) {
    Matrix part(types.x, 9, 13);
    for (int64_t r = 0; r < 9; ++r) {
      for (int64_t k = 0; k < 13; ++k) part.Set(r, k, x.Get(r, h * 13 + k));
    }
    const Matrix alone = Multiply(runner, types, part, w);
    for (int64_t r = 0; r < 9; ++r) {
      for (int64_t c = 0; c < 20; ++c) ASSERT_EQ(out.Get(r, h * 20 + c), alone.Get(r, c));
    }
  }
}

TEST_P(Matmul, AccumulateAddsTheWholeProductOnce) {
  const Runner runner(GetParam());
  const Types types{DType::kF32, DType::kBF16, DType::kF32};
  Matrix x = Matrix::Random(types.x, 14, 31, 16);
  const Matrix w = Matrix::Random(types.weight, 45, 31, 17);
  const Matrix product = Multiply(runner, types, x, w);
  Matrix out = Matrix::Random(types.out, 14, 45, 18);
  const Matrix before = out;
  const Packed packed(runner, types.weight, w);
  const MatmulGroup group{.weight = &packed.matrix(), .rows = 14};
  runner->matmul(runner.stream(), x.View(), &group, 1, out.View(), true);
  for (int64_t r = 0; r < 14; ++r) {
    for (int64_t c = 0; c < 45; ++c) {
      ASSERT_EQ(out.Get(r, c), before.Get(r, c) + product.Get(r, c));
    }
  }
}

TEST_P(Matmul, GateUpIsSiluOfGateTimesUp) {
  const Runner runner(GetParam(), 2);
  for (const Types types : kTypes) {
    const Shape shape{15, 70, 20};
    const Matrix x = X(types, shape, 19);
    const Matrix gate = W(types, shape, 20);
    const Matrix up = W(types, shape, 21);
    const Types f32_out{types.x, types.weight, DType::kF32};
    const Matrix g = Multiply(runner, f32_out, x, gate);
    const Matrix u = Multiply(runner, f32_out, x, up);
    const Matrix out = GateUp(runner, types, x, gate, up);
    for (int64_t r = 0; r < shape.rows; ++r) {
      for (int64_t c = 0; c < shape.n; ++c) {
        const double z = g.Get(r, c);
        const double exact = z / (1 + std::exp(-z)) * u.Get(r, c);
        // exp errs by 2 roundings; the sum, quotient and product round once each.
        double bound = 6 * kF32Rounding * std::abs(exact);
        if (types.out == DType::kBF16) bound += 1.01 * kBf16Rounding * std::abs(exact);
        ASSERT_NEAR(out.Get(r, c), exact, bound) << r << ", " << c;
      }
    }
  }
}

TEST_P(Matmul, SiluStaysFiniteAtTheEnds) {
  const Runner runner(GetParam());
  const Types types{DType::kF32, DType::kF32, DType::kF32};
  Matrix x(DType::kF32, 1, 1);
  Matrix gate(DType::kF32, 6, 1);
  Matrix up(DType::kF32, 6, 1);
  x.Set(0, 0, 1.0f);
  const float gates[] = {-1e30f, -200.0f, -88.0f, 0.0f, 88.0f, 1e30f};
  for (int64_t i = 0; i < 6; ++i) gate.Set(i, 0, gates[i]), up.Set(i, 0, 1.0f);
  const Matrix out = GateUp(runner, types, x, gate, up);
  EXPECT_EQ(out.Get(0, 0), 0.0f);
  EXPECT_EQ(out.Get(0, 1), 0.0f);
  EXPECT_NEAR(out.Get(0, 2), 0.0f, 1e-35f);
  EXPECT_EQ(out.Get(0, 3), 0.0f);
  EXPECT_EQ(out.Get(0, 4), 88.0f);
  EXPECT_EQ(out.Get(0, 5), 1e30f);
}

TEST_P(Matmul, ZeroRowsAreNoWork) {
  const Runner runner(GetParam(), 2);
  const Packed packed(runner, DType::kF32, Matrix::Random(DType::kF32, 4, 4, 22));
  const MatmulGroup group{.weight = &packed.matrix()};
  Matrix x(DType::kF32, 0, 4);
  Matrix out(DType::kF32, 0, 4);
  runner->matmul(runner.stream(), x.View(), &group, 1, out.View(), false);
  runner->matmul(runner.stream(), x.View(), &group, 0, out.View(), false);
}

}  // namespace
}  // namespace ballast
