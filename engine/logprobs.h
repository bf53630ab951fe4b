// Log-probabilities of a row of logits, for those who asked. Single-threaded.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "engine/step.h"

namespace ballast {

// Reused between calls so that the step loop does not allocate.
struct LogprobScratch {
  std::vector<float> finite;  // [vocab] mended logits; used only when some are not finite
  std::vector<std::pair<float, int32_t>> candidates;  // (logit, token)
};

// Log-softmax of raw logits, before any parameter of sampling: the token's own, its rank, and the
// `top` best. Ties go to the lower token id. `logits` [vocab], vocab > token >= 0; finite, or else
// the answer is finite all the same (NaN counts as the least float, infinity as the largest).
TokenLogprobs ScoreToken(std::span<const float> logits, int32_t token, int32_t top,
                         LogprobScratch& scratch);

}  // namespace ballast
