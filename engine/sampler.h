// From one row of logits to a token. Pure and single-threaded per row; many rows may be sampled at
// once. Draws come from a counter-based generator keyed by (seed, output index, position), so a
// token never depends on what else was sampled.
#pragma once

#include <array>
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

// Reused between calls so that the step loop does not allocate. One per thread.
struct SampleScratch {
  std::vector<float> finite;   // [vocab] raw logits, mended; used only when some are not finite
  std::vector<float> logits;   // [vocab] after bias and penalties
  std::vector<float> weights;  // [vocab] exp((logit - max) / temperature)
  std::vector<std::pair<float, int32_t>> candidates;  // (logit, token)
};

// Order (api.md): logit bias, penalties, temperature, min_p, top_k, top_p. Log-probabilities come
// from log-softmax of the raw logits, before all of them. Ties go to the lower token id.
// - repetition: a logit of a token in prompt or output is divided by the penalty when positive,
//   multiplied when not; frequency: minus penalty x count in the output; presence: minus the
//   penalty when it is in the output (as in vLLM). Banned tokens are never drawn.
// - temperature 0 takes the largest logit.
// - min_p keeps p >= min_p * the largest p; top_k the k largest; top_p the fewest of those left,
//   largest first, whose share of what is left reaches top_p.
// - the draw walks what is kept in ascending token id until the cumulated probability exceeds
//   UniformDraw(seed, output index, position).
// `logits` [vocab], vocab > 0, finite; should they not be, the token is kNotFinite, and
// log-probabilities are finite all the same (NaN counts as the least float).
Sampled Sample(std::span<const float> logits, const SampleRow& row, const SampleContext& context,
               SampleScratch& scratch);

// Uniform in [0, 1), 53 bits: Philox4x32-10 with key = seed and counter = (position, output index,
// 0, 0), words low first; the first two words of the output make the fraction.
double UniformDraw(uint64_t seed, int32_t output_index, int32_t position);

// Philox4x32-10 of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

}  // namespace ballast
