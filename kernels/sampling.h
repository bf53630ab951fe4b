// What the device's `sample` is told of a row, and what it makes of it: from logits to a token, the
// same one on every device, whatever else is sampled.
//
// In this order, in f32 unless said otherwise; ties go to the lower token id throughout.
//   bias: logit += bias
//   penalties, over the history: repetition divides a positive logit and multiplies another;
//     frequency: minus penalty * output_count; presence: minus penalty when output_count > 0
//   (each of the two leaves a finite logit: NaN counts as the least float, infinity as the largest)
//   banned: a token that is never drawn; its logit becomes -inf
//   temperature 0: the largest logit, and nothing below
//   weights: w = exp((logit - max) / temperature) * 2^40, rounded to an integer, halves to even,
//     with the exp of kernels/cpu/inner_loops.h
//   top_k > 0: the top_k largest logits are kept
//   min_p: of those, what has w >= max(1, min_p * 2^40, rounded likewise)
//   top_p < 1: of those, the fewest, largest logit first, whose sum of w is >= top_p * the sum of
//     all, compared exactly
//   draw: the first token, in ascending id, whose cumulated w exceeds floor(u * sum), where sum is
//     of what is kept and u = DrawBits / 2^64 (kernels/sampling_arithmetic.h)
// Should all logits be -inf, the token is 0.
//
// min_p and top_k keep the head of one ranking each, so their order does not matter. Weights are
// integers so that sums are exact, in any order. To what real numbers would give, the rounding adds
// at most vocab * 2^-41 in total variation (7e-8 for 150,000 tokens), and a token less likely than
// 2^-41 of the best is never drawn; f32's exp and its argument add about (1 + |x|) * 2^-23 of a
// token's own probability exp(-|x|).
#pragma once

#include <cstdint>

namespace ballast {

// A half-open range of one of a step's side arrays.
struct Range {
  int32_t begin = 0;
  int32_t end = 0;
  int32_t size() const { return end - begin; }
};

struct TokenBias {
  int32_t token = 0;
  float bias = 0.0f;
};

// A token of the sequence that penalties look at.
struct TokenCount {
  int32_t token = 0;
  int32_t output_count = 0;  // times it stands in the output; 0: in the prompt only
};

struct SampleParameters {
  int32_t position = 0;      // of the token to be drawn or scored
  int32_t target = -1;       // >= 0: the known token, which is the answer; nothing is drawn
  float temperature = 1.0f;  // >= 0
  float top_p = 1.0f;        // (0, 1]
  int32_t top_k = 0;         // <= 0: off
  float min_p = 0.0f;        // [0, 1]
  float repetition_penalty = 1.0f;
  float frequency_penalty = 0.0f;
  float presence_penalty = 0.0f;
  int32_t output_index = 0;
  uint64_t seed = 0;
  // Of the side arrays. bias and history name a token once at most.
  Range bias;
  Range banned;
  Range history;
};

// What the ranges of SampleParameters index.
struct SampleSides {
  const TokenBias* bias = nullptr;
  const int32_t* banned = nullptr;
  const TokenCount* history = nullptr;
};

// The answer where a logit of the row is NaN or infinite.
inline constexpr int32_t kNotFinite = -1;

}  // namespace ballast
