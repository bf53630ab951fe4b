// The GPU's row kernels against the CPU's reference, to the bit, on odd shapes.
#include "kernels/cuda/rows.h"

#include <gtest/gtest.h>

#include "tests/kernels/cuda/gpu_weight.h"

namespace ballast::cuda {
namespace {

constexpr int64_t kRows[] = {1, 7, 33};
constexpr int64_t kCols[] = {1, 15, 33, 300, 1000};
constexpr DType kTypes[] = {DType::kF32, DType::kBF16};

class GpuRows : public testing::Test {
 protected:
  // check(rows, cols, seed) for every odd shape.
  template <typename Check>
  static void ForShapes(const Check& check) {
    uint32_t seed = 1;
    for (const int64_t rows : kRows) {
      for (const int64_t cols : kCols) check(rows, cols, ++seed);
    }
  }

  const Runner cpu_{"reference"};
  const GpuStream stream_;
};

TEST_F(GpuRows, RmsNormEqualsTheCpu) {
  ForShapes([&](int64_t rows, int64_t cols, uint32_t seed) {
    for (const DType type : kTypes) {
      Matrix x = Matrix::Random(DType::kF32, rows, cols, seed, 3);
      const std::vector<float> weight = RandomFloats(cols, seed + 100);
      Matrix want(type, rows, cols, 1);
      cpu_->rms_norm(cpu_.stream(), x.View(), weight.data(), 1e-6f, want.View());
      GpuMatrix on_gpu(stream_, x);
      const GpuMemory weights(stream_, weight);
      GpuMatrix out(stream_, Matrix(type, rows, cols, 1));
      EXPECT_EQ(RmsNorm(stream_.get(), on_gpu.View(), weights.as<float>(), 1e-6f, out.View()),
                cudaSuccess);
      EXPECT_EQ(out.Read().Difference(want), "") << rows << " x " << cols;
    }
  });
}

TEST_F(GpuRows, RmsNormWorksInPlace) {
  Matrix x = Matrix::Random(DType::kF32, 5, 70, 4);
  const std::vector<float> weight = RandomFloats(70, 5);
  Matrix want(DType::kF32, 5, 70);
  cpu_->rms_norm(cpu_.stream(), x.View(), weight.data(), 1e-5f, want.View());
  GpuMatrix on_gpu(stream_, x);
  const GpuMemory weights(stream_, weight);
  EXPECT_EQ(RmsNorm(stream_.get(), on_gpu.View(), weights.as<float>(), 1e-5f, on_gpu.View()),
            cudaSuccess);
  EXPECT_EQ(on_gpu.Read().Difference(want), "");
}

TEST_F(GpuRows, ConvertEqualsTheCpu) {
  ForShapes([&](int64_t rows, int64_t cols, uint32_t seed) {
    for (const DType from : kTypes) {
      for (const DType to : kTypes) {
        Matrix x = Matrix::Random(from, rows, cols, seed, 2, 1e3f);
        Matrix want(to, rows, cols);
        cpu_->convert(cpu_.stream(), x.View(), want.View());
        GpuMatrix on_gpu(stream_, x);
        GpuMatrix out(stream_, Matrix(to, rows, cols));
        EXPECT_EQ(Convert(stream_.get(), on_gpu.View(), out.View()), cudaSuccess);
        EXPECT_EQ(out.Read().Difference(want), "") << rows << " x " << cols;
      }
    }
  });
}

TEST_F(GpuRows, EmbedEqualsTheCpu) {
  for (const DType type : kTypes) {
    const Weight table(cpu_, stream_, type, 50, 45, 7);
    const std::vector<int32_t> ids = {49, 0, 17, 17, 31, 16, 15};
    Matrix want(DType::kF32, 7, 45, 2);
    cpu_->embed(cpu_.stream(), *table.cpu(), ids.data(), want.View());
    const GpuMemory gpu_ids(stream_, ids);
    GpuMatrix out(stream_, Matrix(DType::kF32, 7, 45, 2));
    EXPECT_EQ(Embed(stream_.get(), *table.gpu(), gpu_ids.as<int32_t>(), out.View()), cudaSuccess);
    EXPECT_EQ(out.Read().Difference(want), "");
  }
}

TEST_F(GpuRows, ClampEqualsTheCpu) {
  ForShapes([&](int64_t rows, int64_t cols, uint32_t seed) {
    Matrix x = Matrix::Random(DType::kF32, rows, cols, seed, 1);
    GpuMatrix on_gpu(stream_, x);
    cpu_->clamp(cpu_.stream(), x.View(), 0.5f);
    EXPECT_EQ(Clamp(stream_.get(), on_gpu.View(), 0.5f), cudaSuccess);
    EXPECT_EQ(on_gpu.Read().Difference(x), "");
  });
}

TEST_F(GpuRows, RopeEqualsTheCpu) {
  for (const int64_t rows : kRows) {
    for (const int64_t rotary : {2, 10, 22}) {
      for (const bool interleaved : {false, true}) {
        for (const DType type : kTypes) {
          Matrix x = Matrix::Random(DType::kF32, rows, 3 * 23, 9);
          Matrix angles = Matrix::Random(DType::kF32, rows, rotary, 10);
          Matrix want(type, rows, 3 * 23);
          cpu_->rope(cpu_.stream(), x.Heads(3), static_cast<float*>(angles.View().data), rotary,
                     interleaved, want.Heads(3));
          GpuMatrix on_gpu(stream_, x);
          GpuMatrix cos_sin(stream_, angles);
          GpuMatrix out(stream_, Matrix(type, rows, 3 * 23));
          EXPECT_EQ(
              Rope(stream_.get(), on_gpu.Heads(3), static_cast<const float*>(cos_sin.View().data),
                   rotary, interleaved, out.Heads(3)),
              cudaSuccess);
          EXPECT_EQ(out.Read().Difference(want), "") << rows << ", " << rotary;
        }
      }
    }
  }
}

// Addresses of rows of a matrix, the last first.
template <typename Pointer>
std::vector<Pointer> Backwards(const MatView& view) {
  std::vector<Pointer> rows;
  for (int64_t r = view.rows - 1; r >= 0; --r) {
    rows.push_back(static_cast<Pointer>(static_cast<const void*>(
        At(static_cast<const void*>(view.data), view.type, r * view.stride))));
  }
  return rows;
}

TEST_F(GpuRows, CopyRowsEqualsTheCpu) {
  ForShapes([&](int64_t rows, int64_t cols, uint32_t seed) {
    for (const DType type : kTypes) {
      Matrix x = Matrix::Random(type, rows, cols, seed, 5);
      Matrix want(type, rows, cols);
      cpu_->copy_rows(cpu_.stream(), Backwards<const void*>(x.View()).data(), want.View());
      GpuMatrix on_gpu(stream_, x);
      const GpuMemory pointers(stream_, Backwards<const void*>(on_gpu.View()));
      GpuMatrix out(stream_, Matrix(type, rows, cols));
      EXPECT_EQ(CopyRows(stream_.get(), pointers.as<const void*>(), out.View()), cudaSuccess);
      EXPECT_EQ(out.Read().Difference(want), "");
    }
  });
}

TEST_F(GpuRows, CombineEqualsTheCpu) {
  ForShapes([&](int64_t rows, int64_t cols, uint32_t seed) {
    constexpr int32_t kChoices = 3;
    for (const bool with_shared : {false, true}) {
      Matrix answers = Matrix::Random(DType::kF32, rows * kChoices, cols, seed, 2);
      Matrix shared = Matrix::Random(DType::kF32, rows, cols, seed + 1);
      Matrix hidden = Matrix::Random(DType::kF32, rows, cols, seed + 2, 1);
      const std::vector<float> weights = RandomFloats(rows * kChoices, seed + 3);
      GpuMatrix gpu_answers(stream_, answers);
      GpuMatrix gpu_shared(stream_, shared);
      GpuMatrix gpu_hidden(stream_, hidden);
      const GpuMemory gpu_weights(stream_, weights);
      const GpuMemory pointers(stream_, Backwards<const float*>(gpu_answers.View()));
      EXPECT_EQ(Combine(stream_.get(), pointers.as<const float*>(), gpu_weights.as<float>(),
                        kChoices, with_shared ? gpu_shared.View() : MatView(), gpu_hidden.View()),
                cudaSuccess);
      cpu_->combine(cpu_.stream(), Backwards<const float*>(answers.View()).data(), weights.data(),
                    kChoices, with_shared ? shared.View() : MatView(), hidden.View());
      EXPECT_EQ(gpu_hidden.Read().Difference(hidden), "");
    }
  });
}

TEST_F(GpuRows, NoRowsAreNoLaunch) {
  Matrix empty(DType::kF32, 0, 8);
  EXPECT_EQ(RmsNorm(stream_.get(), empty.View(), nullptr, 1e-6f, empty.View()), cudaSuccess);
  EXPECT_EQ(Clamp(stream_.get(), empty.View(), 1.0f), cudaSuccess);
  stream_.Wait();
}

}  // namespace
}  // namespace ballast::cuda
