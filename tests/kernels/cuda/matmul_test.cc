// The GPU's exact matrix products against the CPU's reference, to the bit, on odd shapes.
#include "kernels/cuda/matmul.h"

#include <gtest/gtest.h>

#include <memory>

#include "tests/kernels/cuda/gpu_weight.h"

namespace ballast::cuda {
namespace {

struct Types {
  DType x;
  DType weight;
  DType out;
};

constexpr Types kTypes[] = {{DType::kF32, DType::kF32, DType::kF32},
                            {DType::kF32, DType::kBF16, DType::kF32},
                            {DType::kF32, DType::kBF16, DType::kBF16}};

class GpuMatmul : public testing::Test {
 protected:
  Weight MakeWeight(DType type, int64_t n, int64_t k) {
    return {cpu_, stream_, type, n, k, ++seed_};
  }

  // The same groups on both devices give the same bits. groups_of(for_gpu).
  template <typename GroupsOf>
  void ExpectTheCpusProduct(const Types& types, Matrix x, int64_t cols, bool accumulate,
                            const GroupsOf& groups_of) {
    Matrix want = Matrix::Random(types.out, x.rows(), cols, ++seed_, 3);
    GpuMatrix out(stream_, want);
    GpuMatrix gpu_x(stream_, x);
    const std::vector<MatmulGroup> on_cpu = groups_of(false);
    const std::vector<MatmulGroup> on_gpu = groups_of(true);
    cpu_->matmul(cpu_.stream(), x.View(), on_cpu.data(), static_cast<int64_t>(on_cpu.size()),
                 want.View(), accumulate);
    const TilePlan plan = PlanTiles(types.x, on_gpu.data(), static_cast<int64_t>(on_gpu.size()));
    const GpuMemory groups(stream_, plan.groups);
    const bool one = plan.groups.size() == 1;
    EXPECT_EQ(Matmul(stream_.get(), gpu_x.View(), plan, one ? nullptr : groups.as<TiledGroup>(),
                     out.View(), accumulate),
              cudaSuccess);
    EXPECT_EQ(out.Read().Difference(want), "");
  }

  const Runner cpu_{"reference"};
  const GpuStream stream_;
  uint32_t seed_ = 0;
};

TEST_F(GpuMatmul, EqualsTheCpu) {
  for (const Types& types : kTypes) {
    for (const int64_t rows : {1, 7, 33}) {
      for (const auto& [n, k] : {std::pair{1, 1}, {15, 17}, {64, 16}, {65, 100}, {130, 33}}) {
        const Weight weight = MakeWeight(types.weight, n, k);
        const Matrix x = Matrix::Random(types.x, rows, k, ++seed_, 5);
        ExpectTheCpusProduct(types, x, n, false, [&, rows = rows](bool gpu) {
          return std::vector<MatmulGroup>{{gpu ? weight.gpu() : weight.cpu(), 0, rows, 0, 0}};
        });
      }
    }
  }
}

TEST_F(GpuMatmul, AccumulatesTheWholeProductOnce) {
  const Types types = kTypes[1];
  const Weight weight = MakeWeight(types.weight, 70, 90);
  ExpectTheCpusProduct(types, Matrix::Random(types.x, 33, 90, 5), 70, true, [&](bool gpu) {
    return std::vector<MatmulGroup>{{gpu ? weight.gpu() : weight.cpu(), 0, 33, 0, 0}};
  });
}

// As experts are: groups of rows with weights of their own, some without rows.
TEST_F(GpuMatmul, GroupsOfRowsEqualTheCpu) {
  for (const Types& types : kTypes) {
    std::vector<std::unique_ptr<Weight>> experts;
    for (int i = 0; i < 5; ++i) {
      experts.push_back(std::make_unique<Weight>(cpu_, stream_, types.weight, 70, 35, ++seed_));
    }
    const int64_t rows[] = {33, 0, 1, 64, 7};
    const Matrix x = Matrix::Random(types.x, 105, 35, ++seed_);
    ExpectTheCpusProduct(types, x, 70, false, [&](bool gpu) {
      std::vector<MatmulGroup> groups;
      int64_t begin = 0;
      for (size_t i = 0; i < experts.size(); ++i) {
        groups.push_back({gpu ? experts[i]->gpu() : experts[i]->cpu(), begin, rows[i], 0, 0});
        begin += rows[i];
      }
      return groups;
    });
  }
}

// As per-head products are: groups of columns.
TEST_F(GpuMatmul, GroupsOfColumnsEqualTheCpu) {
  const Types types = kTypes[1];
  const Weight first = MakeWeight(types.weight, 20, 30);
  const Weight second = MakeWeight(types.weight, 40, 30);
  const Matrix x = Matrix::Random(types.x, 9, 60, 8);
  ExpectTheCpusProduct(types, x, 60, false, [&](bool gpu) {
    return std::vector<MatmulGroup>{{gpu ? first.gpu() : first.cpu(), 0, 9, 0, 0},
                                    {gpu ? second.gpu() : second.cpu(), 0, 9, 30, 20}};
  });
}

TEST_F(GpuMatmul, GateUpEqualsTheCpu) {
  for (const Types& types : kTypes) {
    const Weight gate = MakeWeight(types.weight, 67, 45);
    const Weight up = MakeWeight(types.weight, 67, 45);
    const Weight other = MakeWeight(types.weight, 67, 45);
    Matrix x = Matrix::Random(types.x, 40, 45, ++seed_, 2);
    Matrix want(types.out, 40, 67, 1);
    GpuMatrix out(stream_, want);
    GpuMatrix gpu_x(stream_, x);
    const GateUpGroup on_cpu[] = {{gate.cpu(), up.cpu(), 0, 33}, {other.cpu(), gate.cpu(), 33, 7}};
    const GateUpGroup on_gpu[] = {{gate.gpu(), up.gpu(), 0, 33}, {other.gpu(), gate.gpu(), 33, 7}};
    cpu_->gate_up(cpu_.stream(), x.View(), on_cpu, 2, want.View());
    const TilePlan plan = PlanTiles(types.x, on_gpu, 2);
    const GpuMemory groups(stream_, plan.groups);
    EXPECT_EQ(GateUp(stream_.get(), gpu_x.View(), plan, groups.as<TiledGroup>(), out.View()),
              cudaSuccess);
    EXPECT_EQ(out.Read().Difference(want), "");
  }
}

// A list of one group and a group that comes with the launch are the same.
TEST_F(GpuMatmul, OneGroupMayBeInDeviceMemory) {
  const Weight weight = MakeWeight(DType::kF32, 67, 45);
  GpuMatrix x(stream_, Matrix::Random(DType::kF32, 7, 45, ++seed_));
  GpuMatrix from_list(stream_, Matrix(DType::kF32, 7, 67));
  GpuMatrix from_launch(stream_, Matrix(DType::kF32, 7, 67));
  const GateUpGroup group = {weight.gpu(), weight.gpu(), 0, 7};
  const TilePlan plan = PlanTiles(DType::kF32, &group, 1);
  const GpuMemory list(stream_, plan.groups);
  EXPECT_EQ(GateUp(stream_.get(), x.View(), plan, list.as<TiledGroup>(), from_list.View()),
            cudaSuccess);
  EXPECT_EQ(GateUp(stream_.get(), x.View(), plan, nullptr, from_launch.View()), cudaSuccess);
  EXPECT_EQ(from_launch.Read().Difference(from_list.Read()), "");
}

TEST_F(GpuMatmul, NoRowsAreNoLaunch) {
  const Weight weight = MakeWeight(DType::kF32, 8, 8);
  const MatmulGroup group{weight.gpu(), 0, 0, 0, 0};
  const TilePlan plan = PlanTiles(DType::kF32, &group, 1);
  EXPECT_EQ(plan.tiles, 0);
  EXPECT_TRUE(plan.groups.empty());
  EXPECT_EQ(Matmul(stream_.get(), {}, plan, nullptr, {}, false), cudaSuccess);
}

}  // namespace
}  // namespace ballast::cuda
