// The GPU's router against the CPU's reference, to the bit.
#include "kernels/cuda/router.h"

#include <gtest/gtest.h>

#include "tests/kernels/cuda/gpu_memory.h"

namespace ballast::cuda {
namespace {

class GpuRouter : public testing::Test {
 protected:
  void ExpectTheCpusChoices(const RouterConfig& config, Matrix logits,
                            const std::vector<float>& bias) {
    const auto picks = static_cast<size_t>(logits.rows() * config.k);
    std::vector<int32_t> want_ids(picks);
    std::vector<float> want_weights(picks);
    cpu_->route(cpu_.stream(), logits.View(), config, bias.empty() ? nullptr : bias.data(),
                want_ids.data(), want_weights.data());
    GpuMatrix on_gpu(stream_, logits);
    const GpuMemory gpu_bias(stream_, bias.empty() ? std::vector<float>(1) : bias);
    std::vector<int32_t> ids(picks, -1);
    std::vector<float> weights(picks);
    const GpuMemory gpu_ids(stream_, ids);
    const GpuMemory gpu_weights(stream_, weights);
    EXPECT_EQ(
        Route(stream_.get(), on_gpu.View(), config, bias.empty() ? nullptr : gpu_bias.as<float>(),
              gpu_ids.as<int32_t>(), gpu_weights.as<float>()),
        cudaSuccess);
    gpu_ids.Read(ids.data());
    gpu_weights.Read(weights.data());
    EXPECT_EQ(ids, want_ids);
    for (size_t i = 0; i < picks; ++i) {
      EXPECT_EQ(std::bit_cast<uint32_t>(weights[i]), std::bit_cast<uint32_t>(want_weights[i])) << i;
    }
  }

  const Runner cpu_{"reference"};
  const GpuStream stream_;
};

TEST_F(GpuRouter, EqualsTheCpu) {
  uint32_t seed = 1;
  for (const RouterScore score : {RouterScore::kSoftmax, RouterScore::kSigmoid}) {
    for (const auto& [experts, k, groups, kept] :
         {std::array{8, 2, 1, 1}, std::array{33, 4, 1, 1}, std::array{60, 6, 3, 2},
          std::array{64, 64, 1, 1}, std::array{160, 6, 8, 3}, std::array{256, 8, 8, 4},
          std::array{512, 10, 1, 1}}) {
      for (const int64_t rows : {1, 7, 33}) {
        const RouterConfig config{score, experts, k, groups, kept, seed % 2 == 0, 1e-20f, 2.5f};
        const Matrix logits = Matrix::Random(DType::kF32, rows, experts, ++seed, 3, 2.0f);
        ExpectTheCpusChoices(config, logits, RandomFloats(experts, seed, 0.1f));
        ExpectTheCpusChoices(config, logits, {});
      }
    }
  }
}

TEST_F(GpuRouter, TiesGoToTheLowerExpert) {
  const RouterConfig config{RouterScore::kSigmoid, 64, 6, 8, 4, true, 1e-20f, 1.0f};
  Matrix logits = Matrix::Random(DType::kF32, 9, 64, 3);
  for (int64_t r = 0; r < 9; ++r) {
    for (int64_t c = 0; c < 64; ++c) logits.Set(r, c, std::round(logits.Get(r, c)));
  }
  ExpectTheCpusChoices(config, logits, {});
}

TEST_F(GpuRouter, NaNIsChosenLast) {
  const RouterConfig config{RouterScore::kSigmoid, 8, 3, 1, 1, false, 0.0f, 1.0f};
  Matrix logits = Matrix::Random(DType::kF32, 2, 8, 5);
  for (int64_t c = 0; c < 7; ++c) logits.Set(1, c, NAN);
  ExpectTheCpusChoices(config, logits, {});
}

TEST_F(GpuRouter, TooManyExpertsForSharedMemoryAreRefused) {
  const RouterConfig config{RouterScore::kSigmoid, 4096, 8, 1, 1, false, 0.0f, 1.0f};
  Matrix logits = Matrix::Random(DType::kF32, 1, 4096, 5);
  EXPECT_EQ(Route(stream_.get(), logits.View(), config, nullptr, nullptr, nullptr),
            cudaErrorInvalidValue);
}

}  // namespace
}  // namespace ballast::cuda
