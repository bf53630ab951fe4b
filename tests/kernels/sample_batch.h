// Rows of logits to draw from, with parameters of every kind.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/sampling.h"
#include "tests/kernels/kernel_sets.h"

namespace ballast {

struct SampleBatch {
  Matrix logits;
  std::vector<SampleParameters> rows = {};
  std::vector<TokenBias> bias = {};
  std::vector<int32_t> banned = {};
  std::vector<TokenCount> history = {};

  SampleBatch(int64_t count, int64_t vocab) : logits(DType::kF32, count, vocab, 3) {}

  // A third of the rows have many ties, and half of them each kind of side array.
  static SampleBatch Random(int64_t count, int64_t vocab, uint32_t seed) {
    SampleBatch batch(count, vocab);
    std::mt19937 random(seed);
    for (int64_t row = 0; row < count; ++row) {
      batch.FillRow(row, random);
      batch.AddSides(batch.rows.emplace_back(RandomParameters(vocab, random)), random);
    }
    return batch;
  }

  static SampleParameters RandomParameters(int64_t vocab, std::mt19937& random) {
    SampleParameters row;
    row.position = static_cast<int32_t>(random() % 5000);
    row.output_index = static_cast<int32_t>(random() % 3);
    row.seed = uint64_t{random()} << 32 | random();
    if (Chance(0.05f, random)) row.target = static_cast<int32_t>(random() % vocab);
    row.temperature = Chance(0.1f, random) ? 0.0f : 0.05f + 2.0f * Uniform(random);
    if (Chance(0.6f, random)) row.top_p = 0.001f + 0.998f * Uniform(random);
    if (Chance(0.6f, random)) {
      row.top_k = 1 + static_cast<int32_t>(random() % (Chance(0.5f, random) ? 60 : 2 * vocab));
    }
    if (Chance(0.4f, random)) row.min_p = std::pow(Uniform(random), 4.0f);
    row.repetition_penalty = 0.5f + Uniform(random);
    row.frequency_penalty = Uniform(random) - 0.5f;
    row.presence_penalty = Uniform(random) - 0.5f;
    return row;
  }

  // What a device of the CPU's makes of it.
  std::vector<int32_t> Tokens(const Runner& cpu) const {
    Matrix overwritten = logits;
    std::vector<int32_t> tokens(rows.size(), -7);
    cpu->sample(cpu.stream(), overwritten.View(), rows.data(),
                {bias.data(), banned.data(), history.data()}, tokens.data());
    return tokens;
  }

 private:
  static float Uniform(std::mt19937& random) {
    return std::uniform_real_distribution<float>(0.0f, 1.0f)(random);
  }
  static bool Chance(float p, std::mt19937& random) { return Uniform(random) < p; }

  void FillRow(int64_t row, std::mt19937& random) {
    const bool ties = Chance(0.3f, random);
    std::normal_distribution<float> normal(0.0f, 0.2f + 4.0f * Uniform(random));
    for (int64_t token = 0; token < logits.cols(); ++token) {
      const float logit = normal(random);
      logits.Set(row, token, ties ? std::round(2.0f * logit) / 2.0f : logit);
    }
  }

  void AddSides(SampleParameters& row, std::mt19937& random) {
    const float with_bias = Chance(0.5f, random) ? 0.2f : 0.0f;
    const float with_ban = Chance(0.5f, random) ? 0.1f : 0.0f;
    const float with_history = Chance(0.5f, random) ? 0.2f : 0.0f;
    row.bias.begin = static_cast<int32_t>(bias.size());
    row.banned.begin = static_cast<int32_t>(banned.size());
    row.history.begin = static_cast<int32_t>(history.size());
    for (int32_t token = 0; token < logits.cols(); ++token) {
      if (Chance(with_bias, random)) bias.push_back({token, 4.0f * Uniform(random) - 2.0f});
      if (Chance(with_ban, random)) banned.push_back(token);
      if (Chance(with_history, random)) {
        history.push_back({token, static_cast<int32_t>(random() % 3)});
      }
    }
    row.bias.end = static_cast<int32_t>(bias.size());
    row.banned.end = static_cast<int32_t>(banned.size());
    row.history.end = static_cast<int32_t>(history.size());
  }
};

}  // namespace ballast
