#include "engine/sampler.h"

#include <cmath>
#include <limits>
#include <random>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"

namespace ballast {
namespace {

constexpr int64_t kVocab = 40;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// A tile in the CPU's memory, where room for side arrays is chosen.
class SampleTiles : public testing::Test {
 protected:
  SampleTiles() : device_(*FindCpuDevice("auto")), stream_(device_.create_stream(0, 1)) {}
  ~SampleTiles() override { device_.destroy_stream(stream_); }

  // A row that draws greedily and has random bias, banned tokens and history.
  void AddRow(std::mt19937& random) {
    const auto below = [&random](int32_t end) { return static_cast<int32_t>(random() % end); };
    SampleRow& row = batch_.samples.emplace_back();
    row.temperature = 0.0f;
    row.presence_penalty = 2.0f;
    row.bias.begin = static_cast<int32_t>(batch_.bias.size());
    row.banned.begin = static_cast<int32_t>(batch_.banned.size());
    row.history.begin = static_cast<int32_t>(batch_.history.size());
    for (int32_t token = 0; token < kVocab; ++token) {
      if (below(4) == 0) batch_.bias.push_back({token, static_cast<float>(below(100)) / 10});
      if (below(8) == 0) batch_.banned.push_back(token);
      if (below(4) == 0) batch_.history.push_back({token, below(3)});
    }
    row.bias.end = static_cast<int32_t>(batch_.bias.size());
    row.banned.end = static_cast<int32_t>(batch_.banned.size());
    row.history.end = static_cast<int32_t>(batch_.history.size());
    for (int64_t i = 0; i < kVocab; ++i) {
      logits_.push_back(static_cast<float>(below(1000)) / 100);
    }
  }

  // Of the samples from `begin` on, with room for so many entries of each side array.
  std::vector<Sampled> Run(int64_t begin, int64_t side_entries) {
    const auto rows = static_cast<int64_t>(batch_.samples.size()) - begin;
    std::vector<float> logits(logits_.begin() + begin * kVocab, logits_.end());
    std::vector<SampleParameters> parameters(rows);
    std::vector<int32_t> tokens(rows);
    std::vector<TokenBias> bias(side_entries);
    std::vector<int32_t> banned(side_entries);
    std::vector<TokenCount> history(side_entries);
    Workspace buffers;
    buffers.logits = {logits.data(), DType::kF32, rows, kVocab, kVocab};
    buffers.samples = parameters.data();
    buffers.sampled = tokens.data();
    buffers.side_entries = side_entries;
    buffers.bias = bias.data();
    buffers.banned = banned.data();
    buffers.history = history.data();
    std::vector<Sampled> sampled(rows);
    EXPECT_TRUE(SampleTile(device_, stream_, buffers, batch_, begin, staging_, sampled).ok());
    return sampled;
  }

  const Device& device_;
  const Stream stream_;
  RankBatch batch_;
  std::vector<float> logits_;  // [samples, vocab]
  SampleStaging staging_;
};

TEST_F(SampleTiles, RowsWhoseSideArraysDoNotFitTogetherAreDrawnInTurn) {
  std::mt19937 random(3);
  for (int i = 0; i < 30; ++i) AddRow(random);
  const std::vector<Sampled> at_once = Run(0, 30 * kVocab);
  const std::vector<Sampled> in_turn = Run(0, kVocab);
  for (size_t i = 0; i < at_once.size(); ++i) {
    EXPECT_EQ(in_turn[i].token, at_once[i].token) << i;
    // Against the definition, in plain steps.
    const SampleRow& row = batch_.samples[i];
    std::vector<float> logits(logits_.begin() + i * kVocab, logits_.begin() + (i + 1) * kVocab);
    for (int32_t j = row.bias.begin; j < row.bias.end; ++j) {
      logits[batch_.bias[j].token] += batch_.bias[j].bias;
    }
    for (int32_t j = row.history.begin; j < row.history.end; ++j) {
      logits[batch_.history[j].token] -= batch_.history[j].output_count > 0 ? 2.0f : 0.0f;
    }
    for (int32_t j = row.banned.begin; j < row.banned.end; ++j) logits[batch_.banned[j]] = -1e9f;
    EXPECT_EQ(at_once[i].token, std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
}

TEST_F(SampleTiles, ATileMayBeginAnywhereInTheBatch) {
  std::mt19937 random(5);
  for (int i = 0; i < 9; ++i) AddRow(random);
  const std::vector<Sampled> all = Run(0, kVocab);
  const std::vector<Sampled> last = Run(6, kVocab);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(last[i].token, all[6 + i].token);
}

TEST_F(SampleTiles, LogprobsAreOfTheRawLogitsOfThoseWhoAsked) {
  std::mt19937 random(7);
  for (int i = 0; i < 4; ++i) AddRow(random);
  batch_.samples[1].logprobs = 2;
  batch_.samples[3].logprobs = 0;
  const std::vector<Sampled> sampled = Run(0, kVocab);
  LogprobScratch scratch;
  for (size_t i = 0; i < 4; ++i) {
    ASSERT_EQ(sampled[i].logprobs.has_value(), i % 2 == 1);
    if (i % 2 == 0) continue;
    const std::span<const float> raw(logits_.data() + i * kVocab, kVocab);
    const TokenLogprobs want =
        ScoreToken(raw, sampled[i].token, batch_.samples[i].logprobs, scratch);
    EXPECT_EQ(sampled[i].logprobs->logprob, want.logprob);
    EXPECT_EQ(sampled[i].logprobs->rank, want.rank);
    EXPECT_EQ(sampled[i].logprobs->top, want.top);
  }
}

TEST_F(SampleTiles, AKnownTokenIsScoredAndNothingDrawn) {
  std::mt19937 random(9);
  AddRow(random);
  batch_.samples[0].target = 17;
  batch_.samples[0].logprobs = 0;
  const std::vector<Sampled> sampled = Run(0, kVocab);
  EXPECT_EQ(sampled[0].token, 17);
  EXPECT_EQ(sampled[0].logprobs->token, 17);
}

TEST_F(SampleTiles, LogitsThatAreNotFiniteAreToldAndOnlyKnownTokensScored) {
  std::mt19937 random(11);
  for (int i = 0; i < 3; ++i) AddRow(random);
  for (SampleRow& row : batch_.samples) row.logprobs = 1;
  batch_.samples[1].target = 5;
  logits_[3] = kNaN;
  logits_[kVocab + 3] = kNaN;
  const std::vector<Sampled> sampled = Run(0, kVocab);
  EXPECT_EQ(sampled[0].token, kNotFinite);
  EXPECT_FALSE(sampled[0].logprobs.has_value());
  EXPECT_EQ(sampled[1].token, kNotFinite);
  ASSERT_TRUE(sampled[1].logprobs.has_value());
  EXPECT_EQ(sampled[1].logprobs->token, 5);
  EXPECT_TRUE(std::isfinite(*sampled[1].logprobs->logprob));
  EXPECT_GE(sampled[2].token, 0);
  EXPECT_TRUE(sampled[2].logprobs.has_value());
}

}  // namespace
}  // namespace ballast
