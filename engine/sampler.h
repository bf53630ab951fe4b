// From one row of logits to a token. Pure and single-threaded per row; many rows may be sampled at
// once. Draws come from a counter-based generator keyed by (seed, output index, position), so a
// token never depends on what else was sampled.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "engine/step.h"

namespace ballast {

// Side arrays that SampleRow's ranges index.
struct SampleContext {
  std::span<const std::pair<int32_t, float>> bias;
  std::span<const int32_t> banned;
  std::span<const TokenCount> history;
};

// Reused between calls so that the step loop does not allocate.
struct SampleScratch {
  std::vector<float> logits;
  std::vector<std::pair<float, int32_t>> candidates;
};

// Order (api.md): logit bias, penalties, temperature, min_p, top_k, top_p. Log-probabilities come
// from log-softmax of the raw logits, before all of them. Ties go to the lower token id.
// `logits` [vocab] finite.
Sampled Sample(std::span<const float> logits, const SampleRow& row, const SampleContext& context,
               SampleScratch& scratch);

// Uniform in [0, 1): Philox4x32-10 (Salmon et al., SC 2011), key = seed, counter = (position,
// output index).
double UniformDraw(uint64_t seed, int32_t output_index, int32_t position);

}  // namespace ballast
