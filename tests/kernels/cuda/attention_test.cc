// The GPU's attention against the CPU's reference, to the bit, on odd shapes and in every way that
// it may run. Tensor cores of a real GPU add the products of one mma in an order of their own:
// there they are only near the CPU, and equal themselves in every way. The emulator's add as the
// CPU does.
#include "kernels/cuda/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "kernels/cuda/kv_cache.h"
#include "tests/kernels/attention_model.h"
#include "tests/kernels/cuda/gpu_memory.h"

namespace ballast::cuda {
namespace {

std::vector<AttentionModel> Models() {
  std::vector<AttentionModel> models;
  for (const DType type : {DType::kF32, DType::kBF16}) {
    models.push_back({type, 2, 2, 16, 16, false, 0, false});
    models.push_back({type, 6, 2, 20, 24, false, 0, true});   // grouped queries, sinks
    models.push_back({type, 9, 1, 7, 5, false, 0, false});    // odd dimensions
    models.push_back({type, 4, 2, 33, 19, false, 8, true});   // window within a block
    models.push_back({type, 3, 3, 8, 9, false, 300, false});  // window over partitions
    models.push_back({type, 20, 1, 12, 10, true, 0, false});  // latent
    models.push_back({type, 5, 1, 19, 19, true, 270, true});
  }
  return models;
}

// The last `rows` of a sequence's tokens, the others having come before.
struct Span {
  int64_t tokens;
  int32_t rows;
};

// Some sequences that attend at once; their KV blocks lie anywhere.
struct Batch {
  Batch(const AttentionModel& model, const std::vector<Span>& sequences, uint32_t seed) : m(model) {
    int64_t tokens = 0;
    for (const Span& s : sequences) {
      spans.push_back(
          {rows, s.rows, static_cast<int32_t>(s.tokens) - s.rows, static_cast<int64_t>(blocks)});
      longest = std::max(longest, static_cast<int32_t>(s.tokens));
      rows += s.rows;
      tokens += s.tokens;
      blocks += (s.tokens + kKvBlockTokens - 1) / kKvBlockTokens;
    }
    table.resize(static_cast<size_t>(blocks));
    std::iota(table.begin(), table.end(), 0);
    std::shuffle(table.begin(), table.end(), std::mt19937(seed));
    for (size_t s = 0; s < sequences.size(); ++s) {
      for (int64_t i = 0; i < sequences[s].tokens; ++i) {
        slots.push_back(table[static_cast<size_t>(spans[s].table_begin + i / kKvBlockTokens)] *
                            kKvBlockTokens +
                        static_cast<int32_t>(i % kKvBlockTokens));
      }
    }
    q = Matrix::Random(m.type, rows, m.heads * m.k_dim, seed + 1, 3);
    k = Matrix::Random(DType::kF32, tokens, m.kv_heads * m.k_dim, seed + 2, 1);
    v = Matrix::Random(DType::kF32, tokens, m.kv_heads * m.v_dim, seed + 3);
    if (m.sinks) sinks = RandomFloats(m.heads, seed + 4, 3.0f);
  }

  KvCache Cache() const {
    return {nullptr, m.type, blocks, m.kv_heads, m.k_dim, m.v_dim, m.v_in_k};
  }
  AttentionShape Shape() const {
    return {rows, m.heads, static_cast<int64_t>(spans.size()), longest, m.window};
  }
  float Scale() const { return 1.0f / std::sqrt(static_cast<float>(m.k_dim)); }

  AttentionModel m;
  std::vector<AttentionSpan> spans;
  std::vector<int32_t> table;
  std::vector<int32_t> slots;
  std::vector<float> sinks;
  int64_t rows = 0;
  int64_t blocks = 0;
  int32_t longest = 0;
  Matrix q{DType::kF32, 0, 0};
  Matrix k{DType::kF32, 0, 0};
  Matrix v{DType::kF32, 0, 0};
};

// 33, 1, 7 and 18 rows, some over the end of a partition.
const std::vector<Span> kMixed = {{33, 33}, {530, 1}, {259, 7}, {300, 18}};
// One row each, as when decoding.
const std::vector<Span> kDecode = {{1, 1}, {17, 1}, {256, 1}, {257, 1}, {600, 1}};

class GpuAttention : public testing::Test {
 protected:
  Matrix OnCpu(Batch& b, DType out_type = DType::kF32) {
    KvCache cache = b.Cache();
    std::vector<float> memory(cpu_->kv_bytes(cache) / sizeof(float), std::nanf(""));
    cache.data = memory.data();
    Matrix out(out_type, b.rows, b.m.heads * b.m.v_dim, 2);
    cpu_->write_kv(cpu_.stream(), cache, b.k.Heads(b.m.kv_heads), b.v.Heads(b.m.kv_heads),
                   b.slots.data());
    AttentionBatch batch{b.spans.data(), static_cast<int64_t>(b.spans.size()), b.table.data(),
                         b.longest};
    cpu_->attention(cpu_.stream(), cache, b.q.Heads(b.m.heads), batch, b.Scale(), b.m.window,
                    b.sinks.empty() ? nullptr : b.sinks.data(), out.Heads(b.m.heads));
    return out;
  }

  Matrix OnGpu(const Batch& b, const AttentionPlan& plan, DType out_type = DType::kF32) {
    KvCache cache = b.Cache();
    const GpuMemory memory(stream_, std::vector<char>(KvBytes(cache), '\xff'));
    cache.data = memory.as<void>();
    GpuMatrix q(stream_, b.q);
    GpuMatrix k(stream_, b.k);
    GpuMatrix v(stream_, b.v);
    GpuMatrix out(stream_, Matrix(out_type, b.rows, b.m.heads * b.m.v_dim, 2));
    const GpuMemory slots(stream_, b.slots);
    const GpuMemory table(stream_, b.table);
    const GpuMemory spans(stream_, b.spans);
    const GpuMemory sinks(stream_, b.sinks.empty() ? std::vector<float>(1) : b.sinks);
    const GpuMemory scratch(stream_, std::vector<char>(plan.scratch_bytes + 1, '\xff'));
    EXPECT_EQ(WriteKv(stream_.get(), cache, k.Heads(b.m.kv_heads),
                      b.m.v_in_k ? HeadsView{} : v.Heads(b.m.kv_heads), slots.as<int32_t>()),
              cudaSuccess);
    const AttentionBatch batch{spans.as<AttentionSpan>(), static_cast<int64_t>(b.spans.size()),
                               table.as<int32_t>(), b.longest};
    EXPECT_EQ(Attention(stream_.get(), plan, cache, q.Heads(b.m.heads), batch, b.Scale(),
                        b.m.window, b.sinks.empty() ? nullptr : sinks.as<float>(),
                        out.Heads(b.m.heads), scratch.as<void>()),
              cudaSuccess);
    return out.Read();
  }

  void ExpectEqual(Batch& b, const AttentionPlan& plan) {
    SCOPED_TRACE(Describe(b.m) + ", tiles of " + std::to_string(plan.tile_rows) + " rows, " +
                 std::to_string(plan.splits) + " splits");
    const Matrix found = OnGpu(b, plan);
    const Matrix want = OnCpu(b);
    if (!plan.tensor_cores || IsEmulated()) {
      EXPECT_EQ(found.Difference(want), "");
      return;
    }
    // Either's numerators are rounded to bf16; all other roundings come to less than a tenth of it.
    float largest = 0.0f;
    for (int64_t r = 0; r < b.v.rows(); ++r) {
      const Matrix& values = b.m.v_in_k ? b.k : b.v;
      for (int64_t c = 0; c < values.cols(); ++c) {
        largest = std::max(largest, std::fabs(values.Get(r, c)));
      }
    }
    for (int64_t r = 0; r < want.rows(); ++r) {
      for (int64_t c = 0; c < want.cols(); ++c) {
        ASSERT_NEAR(found.Get(r, c), want.Get(r, c), 2.2 * kBf16Rounding * largest);
      }
    }
  }
  void ExpectEqual(Batch b, int tile_rows, int splits) {
    ExpectEqual(b, PlanAttention(b.Cache(), b.Shape(), tile_rows, splits));
  }

  static bool IsEmulated() {
    cudaDeviceProp properties;
    EXPECT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
    return std::string(properties.name).find("emulated") != std::string::npos;
  }

  const Runner cpu_{"reference"};
  const GpuStream stream_;
};

TEST_F(GpuAttention, OnePartitionAfterAnotherEqualsTheCpu) {
  uint32_t seed = 1;
  for (const AttentionModel& m : Models()) {
    ExpectEqual(Batch(m, kMixed, ++seed), 16, 0);
    ExpectEqual(Batch(m, {{270, 20}, {5, 2}}, ++seed), 8, 0);
    ExpectEqual(Batch(m, {{258, 3}, {14, 1}}, ++seed), 1, 0);
    ExpectEqual(Batch(m, kDecode, ++seed), 8, 0);
  }
}

TEST_F(GpuAttention, SplitPartitionsEqualTheCpu) {
  uint32_t seed = 100;
  for (const AttentionModel& m : Models()) {
    ExpectEqual(Batch(m, kMixed, ++seed), 16, 2);
    ExpectEqual(Batch(m, {{270, 20}, {5, 2}}, ++seed), 8, 1);  // each merges with what was before
    ExpectEqual(Batch(m, {{258, 3}, {14, 1}}, ++seed), 1, 5);  // more than there are partitions
    ExpectEqual(Batch(m, kDecode, ++seed), 8, 1);
    ExpectEqual(Batch(m, kDecode, ++seed), 16, 3);
  }
}

TEST_F(GpuAttention, AsPlannedEqualsTheCpu) {
  uint32_t seed = 200;
  for (const AttentionModel& m : Models()) {
    for (const std::vector<Span>& spans : {kDecode, {{1, 1}}, {{40, 40}}, {{1500, 1}}}) {
      Batch b(m, spans, ++seed);
      ExpectEqual(b, PlanAttention(b.Cache(), b.Shape()));
    }
  }
}

// As many values as need each of the tensor cores' kernels, and more than they take.
TEST_F(GpuAttention, LargeHeadsEqualTheCpu) {
  uint32_t seed = 400;
  for (const DType type : {DType::kF32, DType::kBF16}) {
    for (const AttentionModel& m : {AttentionModel{type, 2, 1, 40, 203, false, 0, true},
                                    AttentionModel{type, 3, 1, 330, 301, true, 0, false},
                                    AttentionModel{type, 2, 2, 17, 520, false, 9, false}}) {
      Batch b(m, {{19, 4}, {270, 1}}, ++seed);
      const AttentionPlan plan = PlanAttention(b.Cache(), b.Shape());
      EXPECT_EQ(plan.tensor_cores, type == DType::kBF16 && m.v_dim <= kMaxTensorCoreValues);
      EXPECT_GT(plan.splits, 0);
      ExpectEqual(b, plan);
      ExpectEqual(b, PlanAttention(b.Cache(), b.Shape(), plan.tile_rows, 0));
    }
  }
}

TEST_F(GpuAttention, OutMayBeBf16) {
  for (const DType type : {DType::kF32, DType::kBF16}) {
    Batch b({type, 6, 2, 16, 11, false, 0, true}, kMixed, 9);
    for (const int splits : {0, 2}) {
      const AttentionPlan plan = PlanAttention(b.Cache(), b.Shape(), 8, splits);
      EXPECT_EQ(OnGpu(b, plan, DType::kBF16).Difference(OnCpu(b, DType::kBF16)), "");
    }
  }
}

TEST_F(GpuAttention, ARowIsTheSameInEveryWayAndAloneOnTensorCores) {
  uint32_t seed = 300;
  for (const AttentionModel& m : Models()) {
    if (m.type != DType::kBF16) continue;  // others are the CPU's in every way
    Batch b(m, kMixed, ++seed);
    const Matrix whole = OnGpu(b, PlanAttention(b.Cache(), b.Shape(), 16, 0));
    EXPECT_EQ(whole.Difference(OnGpu(b, PlanAttention(b.Cache(), b.Shape(), 16, 1))), "");
    const AttentionSpan span = b.spans[3];
    b.spans = {{span.row_begin + 5, 4, span.first_position + 5, span.table_begin}};
    const Matrix alone = OnGpu(b, PlanAttention(b.Cache(), b.Shape(), 16, 2));
    for (int64_t row = span.row_begin + 5; row < span.row_begin + 9; ++row) {
      for (int64_t c = 0; c < whole.cols(); ++c) {
        ASSERT_EQ(alone.Get(row, c), whole.Get(row, c)) << Describe(m);
      }
    }
  }
}

TEST_F(GpuAttention, LaterTokensNeverReachEarlierRows) {
  for (const AttentionModel& m : Models()) {
    for (const bool in_keys : {false, true}) {
      Batch b(m, {{40, 30}}, 10);
      const Matrix want = OnGpu(b, PlanAttention(b.Cache(), b.Shape(), 16, 0));
      for (int64_t t = 25; t < 40; ++t) {
        for (int64_t c = 0; c < b.k.cols() && in_keys; ++c) b.k.Set(t, c, std::nanf(""));
        for (int64_t c = 0; c < b.v.cols(); ++c) b.v.Set(t, c, INFINITY);
      }
      const Matrix found = OnGpu(b, PlanAttention(b.Cache(), b.Shape(), 16, 0));
      for (int64_t row = 0; row < 30; ++row) {
        for (int64_t c = 0; c < found.cols(); ++c) {
          if (row < 15) {  // row 14 is token 24
            ASSERT_EQ(found.Get(row, c), want.Get(row, c)) << Describe(m) << " row " << row;
          } else if (in_keys || !m.v_in_k) {
            ASSERT_FALSE(std::isfinite(found.Get(row, c))) << Describe(m) << " row " << row;
          }
        }
      }
    }
  }
}

TEST_F(GpuAttention, NoRowsAreNoLaunch) {
  EXPECT_EQ(Attention(stream_.get(), {}, {}, {}, {}, 1.0f, 0, nullptr, {}, nullptr), cudaSuccess);
}

TEST_F(GpuAttention, HeadsThatAreTooLargeAreRefused) {
  const KvCache cache{nullptr, DType::kF32, 1, 1, 8000, 8000, false};
  const AttentionPlan plan = PlanAttention(cache, {1, 1, 1, 1, 0});
  EXPECT_EQ(plan.tile_rows, 0);
  HeadsView q;
  q.rows = 1;
  EXPECT_EQ(Attention(stream_.get(), plan, cache, q, {}, 1.0f, 0, nullptr, {}, nullptr),
            cudaErrorInvalidValue);
}

}  // namespace
}  // namespace ballast::cuda
