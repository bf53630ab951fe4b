// Data races between the emulated threads of a launch, as ThreadSanitizer sees them
// (kernels/cuda/emulator/checkers.h): planted ones are found, and the kernels have none. Only built
// with ThreadSanitizer.
#include "kernels/cuda/emulator/checkers.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <numeric>
#include <vector>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/emulator/grid.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/quantize.h"
#include "kernels/cuda/router.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sampling.h"
#include "kernels/cuda/tile_plan.h"
#include "tests/kernels/cuda/emulator/faulty_kernels.h"
#include "tests/kernels/cuda/emulator/sample_kernels.h"
#include "tests/kernels/cuda/gpu_weight.h"

// The first race ends the program.
extern "C" const char* __tsan_default_options();  // NOLINT: its name
extern "C" const char* __tsan_default_options() { return "halt_on_error=1:exitcode=66"; }

namespace ballast {
namespace {

using emulator::RunGrid;
using testing::ExitedWithCode;

std::string RunThreads(unsigned blocks, unsigned threads, const std::function<void()>& body) {
  return RunGrid({dim3(blocks), dim3(threads), 64 * sizeof(float)}, 1, body);
}

class Races : public testing::Test {
 protected:
  // Whether the kernel has a race in `blocks` of 64 threads. In a process of its own.
  static void ExpectRace(bool expected, unsigned blocks, const std::function<void()>& body) {
    EXPECT_EXIT(
        {
          const bool ran = RunThreads(blocks, 64, body).empty();
          std::exit(ran ? 0 : 1);
        },
        ExitedWithCode(expected ? 66 : 0), expected ? "data race" : "");
  }

  std::vector<float> in_ = std::vector<float>(256, 1.0f);
  std::vector<float> out_ = std::vector<float>(256);
};

TEST_F(Races, AMissingBarrierIsOne) {
  EXPECT_EXIT(
      {
        RunGrid({dim3(1), dim3(128)}, 1, [this] { Reverse(in_.data(), out_.data(), false); });
        std::exit(0);
      },
      ExitedWithCode(66), "data race");
  EXPECT_EQ(RunGrid({dim3(2), dim3(128)}, 1, [this] { Reverse(in_.data(), out_.data(), true); }),
            "");
}

TEST_F(Races, AVoteInPlaceOfSyncwarpIsOne) {
  ExpectRace(true, 1, [this] { ReverseWarp(in_.data(), out_.data(), false); });
  ExpectRace(false, 1, [this] { ReverseWarp(in_.data(), out_.data(), true); });
}

TEST_F(Races, ACopyIntoWhatOthersStillReadIsOne) {
  ExpectRace(true, 1, [this] { CopyRounds(in_.data(), out_.data(), 3, false); });
  ExpectRace(false, 1, [this] { CopyRounds(in_.data(), out_.data(), 3, true); });
}

TEST_F(Races, BlocksThatWriteTheSameNumberAreOne) {
  ExpectRace(true, 2, [this] { BlocksWrite(out_.data(), false); });
  ExpectRace(false, 2, [this] { BlocksWrite(out_.data(), true); });
}

TEST_F(Races, AMatrixLoadOfWhatAnotherWarpWroteIsOne) {
  ExpectRace(true, 1, [this] { LoadOtherWarp(out_.data(), false); });
  ExpectRace(false, 1, [this] { LoadOtherWarp(out_.data(), true); });
}

TEST_F(Races, AtomicsAndBlocksThatFollowAreNone) {
  int total = 0;
  EXPECT_EQ(RunThreads(3, 64, [&] { CountAll(&total); }), "");
  EXPECT_EQ(RunThreads(1, 64, [this] { CopyThrough(in_.data(), out_.data(), true); }), "");
  EXPECT_EQ(RunThreads(1, 32, [this] { SumOfWarp(in_.data(), out_.data()); }), "");
  EXPECT_EQ(total, 192);
}

}  // namespace

namespace cuda {
namespace {

// The kernels on tiny shapes. That they are right is for other tests to say.
class KernelRaces : public testing::Test {
 protected:
  // Two sequences of which one fills more than a partition, split and not.
  void Attend(DType type, int tile_rows) {
    constexpr int64_t kHeads = 2;
    constexpr int64_t kDim = 8;
    constexpr int64_t kTokens = 260;
    constexpr int64_t kBlocks = (kTokens + kKvBlockTokens - 1) / kKvBlockTokens;
    std::vector<int32_t> numbers(kTokens);
    std::iota(numbers.begin(), numbers.end(), 0);
    const GpuMemory slots(stream_, std::vector<int32_t>{0, 5, 259});
    const GpuMemory table(stream_,
                          std::vector<int32_t>(numbers.begin(), numbers.begin() + kBlocks));
    const std::vector<AttentionSpan> of_sequences = {{0, 2, kTokens - 2, 0}, {2, 1, 0, 0}};
    const GpuMemory spans(stream_, of_sequences);
    KvCache cache{nullptr, type, kBlocks, 1, kDim, kDim, false};
    const GpuMemory memory(stream_, std::vector<char>(KvBytes(cache)));
    cache.data = memory.as<void>();
    GpuMatrix k(stream_, Matrix::Random(DType::kF32, 3, kDim, 1));
    GpuMatrix v(stream_, Matrix::Random(DType::kF32, 3, kDim, 2));
    EXPECT_EQ(WriteKv(stream_.get(), cache, k.Heads(1), v.Heads(1), slots.as<int32_t>()),
              cudaSuccess);
    GpuMatrix q(stream_, Matrix::Random(type, 3, kHeads * kDim, 3));
    GpuMatrix out(stream_, Matrix(DType::kF32, 3, kHeads * kDim));
    for (const int splits : {0, 1}) {
      const AttentionPlan plan =
          PlanAttention(cache, {3, kHeads, 2, kTokens, 0}, tile_rows, splits);
      const GpuMemory scratch(stream_, std::vector<char>(plan.scratch_bytes + 1));
      const AttentionBatch batch{spans.as<AttentionSpan>(), 2, table.as<int32_t>(), kTokens};
      EXPECT_EQ(Attention(stream_.get(), plan, cache, q.Heads(kHeads), batch, 0.3f, 0, nullptr,
                          out.Heads(kHeads), scratch.as<void>()),
                cudaSuccess);
      stream_.Wait();
    }
  }

  const Runner cpu_{"reference"};
  const GpuStream stream_;
};

TEST_F(KernelRaces, RowsHaveNone) {
  GpuMatrix x(stream_, Matrix::Random(DType::kF32, 2, 70, 1));
  GpuMatrix out(stream_, Matrix(DType::kBF16, 2, 70));
  const GpuMemory weight(stream_, RandomFloats(70, 2));
  EXPECT_EQ(RmsNorm(stream_.get(), x.View(), weight.as<float>(), 1e-6f, out.View()), cudaSuccess);
  EXPECT_EQ(Convert(stream_.get(), x.View(), out.View()), cudaSuccess);
  EXPECT_EQ(Clamp(stream_.get(), x.View(), 0.5f), cudaSuccess);
  stream_.Wait();
}

TEST_F(KernelRaces, TheRouterHasNone) {
  for (const RouterScore score : {RouterScore::kSoftmax, RouterScore::kSigmoid}) {
    const RouterConfig config{score, 40, 3, 4, 2, true, 1e-20f, 2.5f};
    GpuMatrix logits(stream_, Matrix::Random(DType::kF32, 5, 40, 3));
    const GpuMemory ids(stream_, std::vector<int32_t>(15));
    const GpuMemory weights(stream_, std::vector<float>(15));
    EXPECT_EQ(Route(stream_.get(), logits.View(), config, nullptr, ids.as<int32_t>(),
                    weights.as<float>()),
              cudaSuccess);
    stream_.Wait();
  }
}

TEST_F(KernelRaces, MatrixProductsHaveNone) {
  for (const DType type : {DType::kF32, DType::kBF16}) {
    for (const int64_t rows : {3, 40}) {
      const Weight gate(cpu_, stream_, type, 70, 100, 5);
      const Weight up(cpu_, stream_, type, 70, 100, 6);
      GpuMatrix x(stream_, Matrix::Random(type, rows, 100, 7));
      GpuMatrix out(stream_, Matrix(DType::kF32, rows, 70));
      const MatmulGroup product{gate.gpu(), 0, rows, 0, 0};
      const TilePlan plan = PlanTiles(type, &product, 1);
      EXPECT_EQ(Matmul(stream_.get(), x.View(), plan, nullptr, out.View(), true), cudaSuccess);
      const GateUpGroup pair{gate.gpu(), up.gpu(), 0, rows};
      const TilePlan pair_plan = PlanTiles(type, &pair, 1);
      EXPECT_EQ(GateUp(stream_.get(), x.View(), pair_plan, nullptr, out.View()), cudaSuccess);
      stream_.Wait();
    }
  }
}

TEST_F(KernelRaces, AttentionHasNone) {
  Attend(DType::kF32, 8);
  Attend(DType::kBF16, 16);  // on tensor cores
}

TEST_F(KernelRaces, QuantizingHasNone) {
  GpuMatrix x(stream_, Matrix::Random(DType::kF32, 3, 700, 8));
  const GpuMemory codes(stream_, std::vector<uint8_t>(2100));
  const GpuMemory scales(stream_, std::vector<float>(3 * 7));
  for (const int64_t group : {100, 700}) {
    const EightBitView out{codes.as<uint8_t>(), EightBit::kInt8,        3, 700, 700, group,
                           scales.as<float>(),  GroupsOfRow(700, group)};
    EXPECT_EQ(Quantize(stream_.get(), x.View(), out), cudaSuccess);
    EXPECT_EQ(Dequantize(stream_.get(), out, x.View()), cudaSuccess);
    stream_.Wait();
  }
}

TEST_F(KernelRaces, SamplingHasNone) {
  GpuMatrix logits(stream_, Matrix::Random(DType::kF32, 1, 90, 9));
  SampleParameters some;
  some.top_k = 20;
  some.top_p = 0.8f;
  some.min_p = 0.01f;
  const GpuMemory rows(stream_, std::vector<SampleParameters>{some});
  const GpuMemory tokens(stream_, std::vector<int32_t>(1));
  EXPECT_EQ(
      Sample(stream_.get(), logits.View(), rows.as<SampleParameters>(), {}, tokens.as<int32_t>()),
      cudaSuccess);
  stream_.Wait();
}

}  // namespace
}  // namespace cuda
}  // namespace ballast
