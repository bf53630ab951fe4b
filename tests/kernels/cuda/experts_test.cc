// A layer's experts, listed on the GPU, against the same products with lists from the host, which
// matmul_test.cc compares with the CPU's.
#include "kernels/cuda/experts.h"

#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <set>

#include "kernels/cuda/matmul.h"
#include "kernels/cuda/tile_plan.h"
#include "tests/kernels/cuda/gpu_memory.h"
#include "tests/kernels/cuda/gpu_weight.h"
#include "tests/kernels/routings.h"

namespace ballast::cuda {
namespace {

constexpr int64_t kHidden = 69;
constexpr int64_t kIntermediate = 37;

class GpuExperts : public testing::Test {
 protected:
  void MakeLayer(DType type, int32_t experts) {
    weights_.clear();
    experts_.clear();
    for (int32_t e = 0; e < experts; ++e) {
      const auto make = [&](int64_t n, int64_t k) {
        weights_.push_back(std::make_unique<Weight>(cpu_, stream_, type, n, k, ++seed_));
        return *weights_.back()->gpu();
      };
      experts_.push_back({make(kIntermediate, kHidden), make(kIntermediate, kHidden),
                          make(kHidden, kIntermediate)});
    }
  }

  // Rows by expert, as the host lists them: choices in order of their experts.
  static std::vector<size_t> ByExpert(const Routing& routing) {
    std::vector<size_t> order(routing.ids.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return routing.ids[a] < routing.ids[b]; });
    return order;
  }

  // [choices] in the choices' order, with plans and lists made here.
  Matrix WithListsFromTheHost(const Routing& routing, const Matrix& x) {
    const std::vector<size_t> order = ByExpert(routing);
    const auto choices = static_cast<int64_t>(order.size());
    Matrix gathered(x.type(), choices, kHidden);
    std::vector<GateUpGroup> gate_up;
    std::vector<MatmulGroup> down;
    for (int64_t row = 0; row < choices; ++row) {
      const size_t choice = order[static_cast<size_t>(row)];
      for (int64_t c = 0; c < kHidden; ++c) {
        gathered.Set(row, c, x.Get(static_cast<int64_t>(choice) / routing.k, c));
      }
      const MlpWeights& expert = experts_[static_cast<size_t>(routing.ids[choice])];
      if (row == 0 || gate_up.back().gate != &expert.gate) {
        gate_up.push_back({&expert.gate, &expert.up, row, 0});
        down.push_back({&expert.down, row, 0, 0, 0});
      }
      ++gate_up.back().rows;
      ++down.back().rows;
    }
    const auto groups = static_cast<int64_t>(down.size());
    GpuMatrix on_gpu(stream_, gathered);
    GpuMatrix h(stream_, Matrix(x.type(), choices, kIntermediate));
    GpuMatrix y(stream_, Matrix(DType::kF32, choices, kHidden));
    const TilePlan first = PlanTiles(x.type(), gate_up.data(), groups);
    const TilePlan second = PlanTiles(x.type(), down.data(), groups);
    const GpuMemory first_list(stream_, first.groups);
    const GpuMemory second_list(stream_, second.groups);
    EXPECT_EQ(GateUp(stream_.get(), on_gpu.View(), first, first_list.as<TiledGroup>(), h.View()),
              cudaSuccess);
    EXPECT_EQ(
        Matmul(stream_.get(), h.View(), second, second_list.as<TiledGroup>(), y.View(), false),
        cudaSuccess);
    const Matrix& by_expert = y.Read();
    Matrix answers(DType::kF32, choices, kHidden);
    for (int64_t row = 0; row < choices; ++row) {
      for (int64_t c = 0; c < kHidden; ++c) {
        answers.Set(static_cast<int64_t>(order[static_cast<size_t>(row)]), c,
                    by_expert.Get(row, c));
      }
    }
    return answers;
  }

  void ExpectTheSame(const Routing& routing, DType act) {
    const Matrix x = Matrix::Random(act, routing.rows, kHidden, ++seed_, 3);
    const auto choices = static_cast<int64_t>(routing.ids.size());
    GpuMatrix on_gpu(stream_, x);
    const GpuMemory ids(stream_, routing.ids);
    const GpuMemory table(stream_, experts_);
    GpuMatrix gathered(stream_, Matrix(act, choices, kHidden, 1));
    GpuMatrix h(stream_, Matrix(act, choices, kIntermediate, 2));
    GpuMatrix y(stream_, Matrix(DType::kF32, choices, kHidden, 5));
    const GpuMemory answers(stream_, std::vector<const float*>(routing.ids.size()));
    const GpuMemory scratch(stream_,
                            std::vector<char>(ExpertScratchBytes(choices, routing.experts), 'x'));
    EXPECT_EQ(RunExperts(stream_.get(), on_gpu.View(), ids.as<int32_t>(), routing.k,
                         {table.as<MlpWeights>(), routing.experts, experts_[0]},
                         {gathered.View(), h.View(), y.View(), answers.as<const float*>()},
                         scratch.as<void>()),
              cudaSuccess);
    std::vector<const float*> where(routing.ids.size());
    answers.Read(where.data());
    const Matrix& got = y.Read();
    const Matrix want = WithListsFromTheHost(routing, x);
    Matrix ordered(DType::kF32, choices, kHidden);
    std::set<int64_t> rows;
    for (int64_t i = 0; i < choices; ++i) {
      const int64_t at = where[static_cast<size_t>(i)] - static_cast<const float*>(y.View().data);
      const int64_t row = at / y.View().stride;
      ASSERT_EQ(at % y.View().stride, 0);
      ASSERT_TRUE(row >= 0 && row < choices) << row;
      rows.insert(row);
      for (int64_t c = 0; c < kHidden; ++c) ordered.Set(i, c, got.Get(row, c));
    }
    EXPECT_EQ(static_cast<int64_t>(rows.size()), choices);
    EXPECT_EQ(ordered.Difference(want), "");
  }

  const Runner cpu_{"reference"};
  const GpuStream stream_;
  std::vector<std::unique_ptr<Weight>> weights_;
  std::vector<MlpWeights> experts_;
  uint32_t seed_ = 0;
};

TEST_F(GpuExperts, AnswerAsWithListsFromTheHost) {
  for (const auto& [act, weight] : {std::pair{DType::kF32, DType::kF32},
                                    {DType::kF32, DType::kBF16},
                                    {DType::kBF16, DType::kBF16}}) {
    for (const Routing& routing : SomeRoutings(3)) {
      MakeLayer(weight, routing.experts);
      ExpectTheSame(routing, act);
    }
  }
}

// More choices and more experts than the block that lists them has threads.
TEST_F(GpuExperts, MayBeMoreThanThreads) {
  MakeLayer(DType::kF32, 1);
  const std::vector<MlpWeights> one = experts_;
  experts_.assign(1030, one[0]);
  ExpectTheSame(RandomRouting(90, 9, 1030, 1029, 7), DType::kF32);
}

TEST_F(GpuExperts, NoRowsAreNoLaunch) {
  EXPECT_EQ(RunExperts(stream_.get(), {}, nullptr, 2, {nullptr, 4, {}}, {}, nullptr), cudaSuccess);
}

TEST_F(GpuExperts, TooManyForSharedMemoryAreRefused) {
  MakeLayer(DType::kF32, 1);
  GpuMatrix x(stream_, Matrix(DType::kF32, 1, kHidden));
  const GpuMemory scratch(stream_, std::vector<char>(ExpertScratchBytes(2, 4096)));
  EXPECT_EQ(RunExperts(stream_.get(), x.View(), nullptr, 2, {nullptr, 4096, experts_[0]}, {},
                       scratch.as<void>()),
            cudaErrorInvalidValue);
}

}  // namespace
}  // namespace ballast::cuda
