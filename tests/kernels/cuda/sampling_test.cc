// The GPU's tokens against the CPU's.
#include "kernels/cuda/sampling.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "tests/kernels/cuda/gpu_memory.h"
#include "tests/kernels/sample_batch.h"

namespace ballast::cuda {
namespace {

constexpr float kLargest = std::numeric_limits<float>::max();

class GpuSampling : public testing::Test {
 protected:
  std::vector<int32_t> TokensOf(const SampleBatch& batch) const {
    GpuMatrix logits(stream_, batch.logits);
    const GpuMemory rows(stream_, batch.rows);
    const GpuMemory bias(stream_, batch.bias.data(), BytesOf(batch.bias));
    const GpuMemory banned(stream_, batch.banned.data(), BytesOf(batch.banned));
    const GpuMemory history(stream_, batch.history.data(), BytesOf(batch.history));
    std::vector<int32_t> tokens(batch.rows.size(), -7);
    const GpuMemory gpu_tokens(stream_, tokens);
    EXPECT_EQ(Sample(stream_.get(), logits.View(), rows.as<SampleParameters>(),
                     {bias.as<TokenBias>(), banned.as<int32_t>(), history.as<TokenCount>()},
                     gpu_tokens.as<int32_t>()),
              cudaSuccess);
    gpu_tokens.Read(tokens.data());
    return tokens;
  }

  void ExpectTheCpusTokens(const SampleBatch& batch) const {
    const std::vector<int32_t> want = batch.Tokens(cpu_);
    const std::vector<int32_t> tokens = TokensOf(batch);
    for (size_t i = 0; i < want.size(); ++i) {
      const SampleParameters& row = batch.rows[i];
      EXPECT_EQ(tokens[i], want[i])
          << "row " << i << ": temperature " << row.temperature << ", top_k " << row.top_k
          << ", top_p " << row.top_p << ", min_p " << row.min_p;
    }
  }

  const Runner cpu_{"reference"};
  const GpuStream stream_;

 private:
  template <typename T>
  static size_t BytesOf(const std::vector<T>& values) {
    return values.size() * sizeof(T);
  }
};

TEST_F(GpuSampling, EqualsTheCpu) {
  for (const auto& [vocab, rows] : {std::pair{1, 9}, std::pair{7, 40}, std::pair{33, 30},
                                    std::pair{1000, 90}, std::pair{5003, 40}}) {
    const SampleBatch batch = SampleBatch::Random(rows, vocab, static_cast<uint32_t>(vocab));
    ExpectTheCpusTokens(batch);
  }
}

// Logits of one value, and of few: the cut falls among equal ones.
TEST_F(GpuSampling, TiesAreKeptByTokenId) {
  for (const float step : {0.0f, 0.5f}) {
    SampleBatch batch(24, 1000);
    std::mt19937 random(5);
    for (int64_t row = 0; row < 24; ++row) {
      for (int64_t token = 0; token < 1000; ++token) {
        batch.logits.Set(row, token, step * static_cast<float>(random() % 4) - 1.0f);
      }
      SampleParameters& added = batch.rows.emplace_back();
      added.position = static_cast<int32_t>(row);
      added.top_k = row % 3 == 0 ? 0 : static_cast<int32_t>(1 + random() % 999);
      added.top_p = row % 3 == 1 ? 1.0f : 0.3f;
      added.temperature = row % 7 == 0 ? 0.0f : 1.0f;
    }
    ExpectTheCpusTokens(batch);
    const std::vector<int32_t> tokens = batch.Tokens(cpu_);
    EXPECT_GT(std::set(tokens.begin(), tokens.end()).size(), 12u);
  }
}

TEST_F(GpuSampling, ZerosOfBothSignsTie) {
  SampleBatch batch(12, 4);
  for (int64_t row = 0; row < 12; ++row) {
    for (int64_t token = 0; token < 4; ++token) {
      batch.logits.Set(row, token, (token + row) % 2 == 0 ? -0.0f : 0.0f);
    }
    SampleParameters& added = batch.rows.emplace_back();
    added.position = static_cast<int32_t>(row);
    added.temperature = row < 2 ? 0.0f : 1.0f;
    added.top_k = row % 3 == 0 ? 2 : 0;
    added.top_p = row % 3 == 1 ? 0.75f : 1.0f;
  }
  ExpectTheCpusTokens(batch);
}

TEST_F(GpuSampling, SaysSoWhenLogitsAreNotFinite) {
  SampleBatch batch = SampleBatch::Random(12, 1500, 3);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  int64_t token = 0;
  for (int64_t row = 0; row < 12; ++row, token += 136) {
    for (const float odd : {NAN, -NAN, kInfinity, -kInfinity}) {
      batch.logits.Set(row, token, odd);
      if (row % 2 == 0) break;
    }
  }
  for (const int32_t answer : TokensOf(batch)) EXPECT_EQ(answer, kNotFinite);
  ExpectTheCpusTokens(batch);
}

TEST_F(GpuSampling, AllBannedIsTokenZero) {
  SampleBatch batch(4, 40);
  for (int32_t token = 0; token < 40; ++token) batch.banned.push_back(token);
  for (int64_t row = 0; row < 4; ++row) {
    for (int64_t i = 0; i < 40; ++i) batch.logits.Set(row, i, static_cast<float>(i));
    SampleParameters& added = batch.rows.emplace_back();
    added.banned = {0, 40};
    added.temperature = row == 0 ? 0.0f : 1.0f;
    added.top_k = row == 2 ? 3 : 0;
    added.top_p = row == 3 ? 0.5f : 1.0f;
  }
  EXPECT_EQ(TokensOf(batch), std::vector<int32_t>(4, 0));
}

TEST_F(GpuSampling, TakesWhatFloatsCanHold) {
  SampleBatch batch = SampleBatch::Random(32, 300, 11);
  batch.bias = {{3, kLargest}, {4, -kLargest}, {5, kLargest}};
  batch.history = {{6, 1000000}, {7, 1}};
  batch.banned = {8, 8, 9};
  std::mt19937 random(13);
  for (size_t i = 0; i < batch.rows.size(); ++i) {
    SampleParameters& row = batch.rows[i];
    row.target = -1;
    row.bias = i % 2 == 0 ? Range{0, 3} : Range{1, 2};
    row.banned = {0, i % 3 == 0 ? 3 : 0};
    row.history = {0, 2};
    row.repetition_penalty = i % 4 == 0 ? std::numeric_limits<float>::denorm_min() : 1.0f;
    const float temperatures[] = {std::numeric_limits<float>::denorm_min(), 1e-30f, 100.0f, 1e30f,
                                  0.02f};
    row.temperature = temperatures[random() % 5];
    const float top_ps[] = {1e-30f, std::nextafter(1.0f, 0.0f), 0.5f, 1.0f};
    row.top_p = top_ps[random() % 4];
    const float min_ps[] = {1.0f, 0x1p-42f, 0x1p-41f, 0.0f};
    row.min_p = min_ps[random() % 4];
    const int32_t top_ks[] = {1, 299, 300, std::numeric_limits<int32_t>::max(), -1};
    row.top_k = top_ks[random() % 5];
  }
  ExpectTheCpusTokens(batch);
}

TEST_F(GpuSampling, NoRowsAreNothing) {
  SampleBatch batch(1, 5);
  MatView none = batch.logits.View();
  none.rows = 0;
  EXPECT_EQ(Sample(stream_.get(), none, nullptr, {}, nullptr), cudaSuccess);
}

}  // namespace
}  // namespace ballast::cuda
