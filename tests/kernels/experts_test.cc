#include <gtest/gtest.h>

#include <memory>

#include "tests/kernels/kernel_sets.h"
#include "tests/kernels/routings.h"

namespace ballast {
namespace {

class Experts : public KernelSets {};
INSTANTIATE_TEST_SUITE_P(All, Experts, ::testing::ValuesIn(kKernelSets), NameOfSet);

constexpr int64_t kHidden = 45;
constexpr int64_t kIntermediate = 37;

// A layer's experts, packed for one kernel set.
class Layer {
 public:
  Layer(const Runner& runner, DType type, int32_t experts) {
    for (int32_t e = 0; e < experts; ++e) {
      const auto pack = [&](int64_t n, int64_t k, uint32_t seed) {
        packed_.push_back(std::make_unique<Packed>(
            runner, type, Matrix::Random(type, n, k, static_cast<uint32_t>(e) * 3 + seed)));
        return packed_.back()->matrix();
      };
      experts_.push_back({pack(kIntermediate, kHidden, 0), pack(kIntermediate, kHidden, 1),
                          pack(kHidden, kIntermediate, 2)});
    }
  }

  ExpertTable table() const {
    return {experts_.data(), static_cast<int32_t>(experts_.size()), experts_[0]};
  }
  const MlpWeights& operator[](int32_t expert) const {
    return experts_[static_cast<size_t>(expert)];
  }

 private:
  std::vector<std::unique_ptr<Packed>> packed_;
  std::vector<MlpWeights> experts_;
};

// What gate_up and matmul make of one row.
Matrix AnswerAlone(const Runner& runner, const MlpWeights& expert, MatView row) {
  Matrix h(row.type, 1, kIntermediate);
  Matrix y(DType::kF32, 1, kHidden);
  const GateUpGroup gate_up{&expert.gate, &expert.up, 0, 1};
  runner->gate_up(runner.stream(), row, &gate_up, 1, h.View());
  const MatmulGroup down{&expert.down, 0, 1, 0, 0};
  runner->matmul(runner.stream(), h.View(), &down, 1, y.View(), false);
  return y;
}

TEST_P(Experts, AnswerAsGateUpAndMatmulDoForEachRowAlone) {
  const Runner runner(GetParam(), 2);
  for (const auto& [act, weight] : {std::pair{DType::kF32, DType::kF32},
                                    {DType::kF32, DType::kBF16},
                                    {DType::kBF16, DType::kBF16}}) {
    for (const Routing& routing : SomeRoutings(5)) {
      const Layer layer(runner, weight, routing.experts);
      Matrix x = Matrix::Random(act, routing.rows, kHidden, 9, 3);
      const auto choices = static_cast<int64_t>(routing.ids.size());
      // More rows than are needed, as a workspace has.
      Matrix gathered(act, choices + 1, kHidden);
      Matrix h(act, choices + 2, kIntermediate);
      Matrix y(DType::kF32, choices + 3, kHidden, 1);
      std::vector<const float*> answers(routing.ids.size());
      runner->run_experts(runner.stream(), x.View(), routing.ids.data(), routing.k, layer.table(),
                          {gathered.View(), h.View(), y.View(), answers.data()});
      for (int64_t i = 0; i < choices; ++i) {
        const int64_t at = answers[static_cast<size_t>(i)] - static_cast<float*>(y.View().data);
        const int64_t row = at / y.View().stride;
        ASSERT_EQ(at % y.View().stride, 0);
        ASSERT_TRUE(row >= 0 && row < choices) << row;
        const Matrix want = AnswerAlone(runner, layer[routing.ids[static_cast<size_t>(i)]],
                                        x.Rows(i / routing.k, 1));
        for (int64_t c = 0; c < kHidden; ++c) ASSERT_EQ(y.Get(row, c), want.Get(0, c));
      }
    }
  }
}

TEST_P(Experts, NoRowsAreNothingToDo) {
  const Runner runner(GetParam());
  const Layer layer(runner, DType::kF32, 2);
  runner->run_experts(runner.stream(), {nullptr, DType::kF32, 0, kHidden, kHidden}, nullptr, 2,
                      layer.table(), {});
}

}  // namespace
}  // namespace ballast
