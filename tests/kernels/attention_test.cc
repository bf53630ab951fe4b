#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tests/kernels/attention_model.h"
#include "tests/kernels/kernel_sets.h"

namespace ballast {
namespace {

std::vector<AttentionModel> Models() {
  std::vector<AttentionModel> models;
  for (const DType type : {DType::kF32, DType::kBF16}) {
    models.push_back({type, 4, 4, 16, 16, false, 0});
    models.push_back({type, 6, 2, 20, 24, false, 0});    // groups, values not of whole panels
    models.push_back({type, 8, 1, 7, 5, false, 0});      // odd dimensions
    models.push_back({type, 4, 2, 32, 32, false, 8});    // window within a block
    models.push_back({type, 3, 3, 16, 16, false, 300});  // window over partitions
    models.push_back({type, 50, 1, 12, 10, true, 0});    // latent, more heads than an item's rows
    models.push_back({type, 5, 1, 19, 13, true, 20});
    models.push_back({type, 6, 2, 16, 16, false, 0, true});
    models.push_back({type, 4, 2, 8, 8, false, 20, true});
  }
  return models;
}

// One sequence's inputs, position by position.
struct Sequence {
  Sequence(const AttentionModel& m, int64_t length, uint32_t seed)
      : q(Matrix::Random(m.type, length, m.heads * m.k_dim, seed)),
        k(Matrix::Random(DType::kF32, length, m.kv_heads * m.k_dim, seed + 1)),
        v(Matrix::Random(DType::kF32, length, m.kv_heads * m.v_dim, seed + 2)) {}
  Matrix q, k, v;
};

float Scale(const AttentionModel& m) { return 1.0f / std::sqrt(static_cast<float>(m.k_dim)); }

// Below and above most scores; none: empty.
std::vector<float> Sinks(const AttentionModel& m) {
  return m.sinks ? RandomFloats(m.heads, 77, 3.0f) : std::vector<float>();
}

// A cache full of NaN.
class Cache {
 public:
  Cache(const Runner& runner, const AttentionModel& m, int64_t blocks)
      : cache_{nullptr, m.type, blocks, m.kv_heads, m.k_dim, m.v_dim, m.v_in_k},
        memory_(runner.device(), runner->kv_bytes(cache_)) {
    cache_.data = memory_.data();
    std::memset(memory_.data(), 0xFF, memory_.bytes());
  }
  const KvCache& view() const { return cache_; }

 private:
  KvCache cache_;
  Memory memory_;
};

// Steps through the sequence in chunks of the given sizes (the last one repeats), as the engine
// does: keys of a chunk are written, then its queries attend.
Matrix RunChunks(const Runner& runner, const AttentionModel& m, Sequence s,
                 const std::vector<int64_t>& chunks, const std::vector<int32_t>& table,
                 DType out_type = DType::kF32) {
  const int64_t length = s.q.rows();
  Matrix out(out_type, length, m.heads * m.v_dim);
  const std::vector<float> sinks = Sinks(m);
  const Cache cache(runner, m, static_cast<int64_t>(table.size()));
  size_t chunk = 0;
  for (int64_t begin = 0; begin < length;) {
    const int64_t rows = std::min(chunks[std::min(chunk++, chunks.size() - 1)], length - begin);
    std::vector<int32_t> slots;
    for (int64_t i = begin; i < begin + rows; ++i) {
      slots.push_back(table[static_cast<size_t>(i / 16)] * 16 + static_cast<int32_t>(i % 16));
    }
    const auto rows_of = [&](Matrix& matrix, int64_t heads) {
      HeadsView view = matrix.Heads(heads);
      view.data = matrix.Rows(begin, rows).data;
      view.rows = rows;
      return view;
    };
    runner->write_kv(runner.stream(), cache.view(), rows_of(s.k, m.kv_heads),
                     m.v_in_k ? HeadsView{} : rows_of(s.v, m.kv_heads), slots.data());
    const AttentionSpan span{0, static_cast<int32_t>(rows), static_cast<int32_t>(begin), 0};
    runner->attention(runner.stream(), cache.view(), rows_of(s.q, m.heads),
                      {&span, 1, table.data()}, Scale(m), m.window,
                      m.sinks ? sinks.data() : nullptr, rows_of(out, m.heads));
    begin += rows;
  }
  return out;
}

std::vector<int32_t> Table(int64_t length, uint32_t seed = 0) {
  std::vector<int32_t> table(static_cast<size_t>((length + 15) / 16));
  std::iota(table.begin(), table.end(), 0);
  if (seed != 0) std::shuffle(table.begin(), table.end(), std::mt19937(seed));
  return table;
}

Matrix RunWhole(const Runner& runner, const AttentionModel& m, const Sequence& s) {
  return RunChunks(runner, m, s, {s.q.rows()}, Table(s.q.rows()));
}

float Stored(DType type, float x) { return type == DType::kBF16 ? FromBf16(ToBf16(x)) : x; }

// Compares row `t`, head `h` with softmax(scale q.k) v in float64.
void ExpectExact(const AttentionModel& m, const Sequence& s, const Matrix& out, int64_t t,
                 int64_t h) {
  const int64_t kv = h / (m.heads / m.kv_heads);
  const int64_t first = m.window > 0 ? std::max<int64_t>(0, t + 1 - m.window) : 0;
  std::vector<double> scores;
  double score_error = 0;
  for (int64_t j = first; j <= t; ++j) {
    double score = 0;
    double magnitude = 0;
    for (int64_t d = 0; d < m.k_dim; ++d) {
      const double product = static_cast<double>(s.q.Get(t, h * m.k_dim + d)) *
                             Stored(m.type, s.k.Get(j, kv * m.k_dim + d));
      score += product;
      magnitude += std::abs(product);
    }
    scores.push_back(score * Scale(m));
    // The dot product's roundings, the scaling's, and the subtraction's of the maximum.
    const double error = (2.02 * static_cast<double>(m.k_dim) + 4) * kF32Rounding * magnitude;
    score_error = std::max(score_error, error * Scale(m));
  }
  const double top = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - top);
  const double keys = static_cast<double>(scores.size());
  if (m.sinks) sum += std::exp(Sinks(m)[static_cast<size_t>(h)] - top);
  for (int64_t d = 0; d < m.v_dim; ++d) {
    double exact = 0;
    double magnitude = 0;
    for (int64_t j = first; j <= t; ++j) {
      const double v = Stored(m.type, m.v_in_k ? s.k.Get(j, d) : s.v.Get(j, kv * m.v_dim + d));
      const double p = scores[static_cast<size_t>(j - first)] / sum;
      exact += p * v;
      magnitude += p * std::abs(v);
    }
    // Numerator and denominator each err by the scores' error, the sums' roundings and, in the
    // numerator, by rounding to bf16.
    double relative = 4 * score_error + (3 * keys + 40) * kF32Rounding;
    if (m.type == DType::kBF16) relative += 1.01 * kBf16Rounding;
    ASSERT_NEAR(out.Get(t, h * m.v_dim + d), exact, relative * magnitude)
        << Describe(m) << " position " << t << " head " << h;
  }
}

class Attention : public KernelSets {};
INSTANTIATE_TEST_SUITE_P(All, Attention, ::testing::ValuesIn(kKernelSets), NameOfSet);

TEST_P(Attention, EqualsFloat64WithinItsRounding) {
  const Runner runner(GetParam(), 2);
  for (const AttentionModel& m : Models()) {
    const Sequence s(m, 530, 1);  // three partitions
    const Matrix out = RunWhole(runner, m, s);
    for (const int64_t t : {0, 1, 7, 15, 16, 17, 40, 255, 256, 257, 300, 511, 512, 529}) {
      for (int64_t h = 0; h < m.heads; ++h) ExpectExact(m, s, out, t, h);
    }
  }
}

TEST_P(Attention, EqualsTheReferenceToTheBit) {
  const Runner runner(GetParam(), 2);
  const Runner reference("reference", 2);
  for (const AttentionModel& m : Models()) {
    if (PairsBf16() && m.type == DType::kBF16) continue;
    const Sequence s(m, 262, 2);
    EXPECT_EQ(RunWhole(runner, m, s).Difference(RunWhole(reference, m, s)), "") << Describe(m);
  }
}

TEST_P(Attention, ChunksDoNotChangeABit) {
  const Runner runner(GetParam());
  for (const AttentionModel& m : Models()) {
    const Sequence s(m, 263, 3);
    const Matrix whole = RunWhole(runner, m, s);
    for (const std::vector<int64_t>& chunks :
         {std::vector<int64_t>{1}, {7}, {64}, {3, 100, 1, 31}}) {
      EXPECT_EQ(whole.Difference(RunChunks(runner, m, s, chunks, Table(263))), "")
          << Describe(m) << " chunks of " << chunks[0];
    }
  }
}

TEST_P(Attention, BlocksMayLieAnywhere) {
  const Runner runner(GetParam());
  for (const AttentionModel& m : Models()) {
    const Sequence s(m, 100, 4);
    EXPECT_EQ(RunWhole(runner, m, s).Difference(RunChunks(runner, m, s, {100}, Table(100, 5))), "")
        << Describe(m);
  }
}

TEST_P(Attention, ThreadsDoNotChangeABit) {
  for (const AttentionModel& m : Models()) {
    const Sequence s(m, 70, 6);
    const Matrix one = RunWhole(Runner(GetParam(), 1), m, s);
    for (const int threads : {2, 4}) {
      EXPECT_EQ(one.Difference(RunWhole(Runner(GetParam(), threads), m, s)), "") << Describe(m);
    }
  }
}

TEST_P(Attention, OutMayBeBf16) {
  const Runner runner(GetParam());
  for (const AttentionModel& m : Models()) {
    const Sequence s(m, 40, 7);
    const Matrix f32 = RunWhole(runner, m, s);
    const Matrix bf16 = RunChunks(runner, m, s, {40}, Table(40), DType::kBF16);
    for (int64_t t = 0; t < 40; ++t) {
      for (int64_t c = 0; c < m.heads * m.v_dim; ++c) {
        ASSERT_EQ(bf16.Get(t, c), FromBf16(ToBf16(f32.Get(t, c))));
      }
    }
  }
}

TEST_P(Attention, ASequenceIsTheSameInABatch) {
  const Runner runner(GetParam(), 2);
  for (const AttentionModel& m : Models()) {
    // Three sequences share one cache; each row has its own history.
    const int64_t lengths[] = {33, 1, 260};
    std::vector<Sequence> sequences;
    std::vector<int32_t> tables;
    std::vector<int32_t> slots;
    std::vector<AttentionSpan> spans;
    const std::vector<int32_t> blocks = Table(3 * 272, 8);
    Matrix q(m.type, 294, m.heads * m.k_dim);
    Matrix k(DType::kF32, 294, m.kv_heads * m.k_dim);
    Matrix v(DType::kF32, 294, m.kv_heads * m.v_dim);
    Matrix out(DType::kF32, 294, m.heads * m.v_dim);
    int64_t row = 0;
    for (const int64_t length : lengths) {
      const Sequence& s = sequences.emplace_back(m, length, static_cast<uint32_t>(length));
      const size_t table = tables.size();
      for (int64_t b = 0; b < (length + 15) / 16; ++b) tables.push_back(blocks[tables.size()]);
      spans.push_back({row, static_cast<int32_t>(length), 0, static_cast<int64_t>(table)});
      for (int64_t i = 0; i < length; ++i, ++row) {
        slots.push_back(tables[table + static_cast<size_t>(i / 16)] * 16 +
                        static_cast<int32_t>(i % 16));
        for (int64_t c = 0; c < q.cols(); ++c) q.Set(row, c, s.q.Get(i, c));
        for (int64_t c = 0; c < k.cols(); ++c) k.Set(row, c, s.k.Get(i, c));
        for (int64_t c = 0; c < v.cols(); ++c) v.Set(row, c, s.v.Get(i, c));
      }
    }
    const Cache cache(runner, m, static_cast<int64_t>(blocks.size()));
    runner->write_kv(runner.stream(), cache.view(), k.Heads(m.kv_heads), v.Heads(m.kv_heads),
                     slots.data());
    const std::vector<float> sinks = Sinks(m);
    runner->attention(runner.stream(), cache.view(), q.Heads(m.heads),
                      {spans.data(), 3, tables.data()}, Scale(m), m.window,
                      m.sinks ? sinks.data() : nullptr, out.Heads(m.heads));
    for (size_t i = 0; i < 3; ++i) {
      const Matrix alone = RunWhole(runner, m, sequences[i]);
      for (int64_t t = 0; t < lengths[i]; ++t) {
        for (int64_t c = 0; c < out.cols(); ++c) {
          ASSERT_EQ(out.Get(spans[i].row_begin + t, c), alone.Get(t, c)) << Describe(m);
        }
      }
    }
  }
}

TEST_P(Attention, LaterTokensNeverReachEarlierRows) {
  const Runner runner(GetParam());
  for (const AttentionModel& m : Models()) {
    Sequence s(m, 40, 9);
    const Matrix before = RunWhole(runner, m, s);
    for (int64_t t = 25; t < 40; ++t) {
      for (int64_t c = 0; c < s.k.cols(); ++c) s.k.Set(t, c, std::nanf(""));
      for (int64_t c = 0; c < s.v.cols(); ++c) s.v.Set(t, c, INFINITY);
    }
    const Matrix after = RunWhole(runner, m, s);
    for (int64_t t = 0; t < 25; ++t) {
      for (int64_t c = 0; c < before.cols(); ++c) {
        ASSERT_EQ(after.Get(t, c), before.Get(t, c)) << Describe(m) << " position " << t;
      }
    }
  }
}

}  // namespace
}  // namespace ballast
