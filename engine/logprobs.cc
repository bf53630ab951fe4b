#include "engine/logprobs.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/softmax.h"
#include "engine/status.h"
#include "kernels/sampling_arithmetic.h"

namespace ballast {
namespace {

using Candidate = std::pair<float, int32_t>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

bool Better(const Candidate& a, const Candidate& b) {
  return a.first > b.first || (a.first == b.first && a.second < b.second);
}

std::span<const float> MendedLogits(std::span<const float> logits, std::vector<float>& finite) {
  // x - x is 0 but for NaN and infinities; the sum lets the compiler use vectors.
  int32_t odd = 0;
  for (const float logit : logits) odd += logit - logit == 0.0f ? 0 : 1;
  if (odd == 0) return logits;
  finite.resize(logits.size());
  std::transform(logits.begin(), logits.end(), finite.begin(), Mended);
  return finite;
}

// Fills `best` with the `count` best tokens, in no order. Fewer when there are fewer.
void GatherBest(std::span<const float> logits, size_t count, std::vector<Candidate>& best) {
  best.clear();
  const auto shrink = [&best, count] {
    std::nth_element(best.begin(), best.begin() + static_cast<ptrdiff_t>(count - 1), best.end(),
                     Better);
    best.resize(count);
  };
  // The buffer shrinks whenever it holds twice what is wanted, so few tokens pass the bar and the
  // cost per token stays constant. Equal logits come with higher ids and do not pass.
  const size_t full = 2 * count + 64;
  float bar = -kInfinity;
  for (size_t token = 0; token < logits.size(); ++token) {
    if (logits[token] > bar) {
      best.emplace_back(logits[token], static_cast<int32_t>(token));
      if (best.size() >= full) {
        shrink();
        bar = best.back().first;
      }
    }
  }
  if (best.size() > count) shrink();
}

}  // namespace

TokenLogprobs ScoreToken(std::span<const float> raw, int32_t token, int32_t top,
                         LogprobScratch& scratch) {
  CHECK(token >= 0 && token < static_cast<int32_t>(raw.size()));
  const std::span<const float> logits = MendedLogits(raw, scratch.finite);
  const float max = MaxLogit(logits);
  const double log_sum = std::log(SumExp(logits, max));
  const auto logprob = [max, log_sum](float logit) {
    return static_cast<float>(
        std::max(static_cast<double>(logit) - static_cast<double>(max) - log_sum,
                 -static_cast<double>(std::numeric_limits<float>::max())));
  };
  const float own = logits[token];
  int32_t better = 0;
  for (size_t other = 0; other < logits.size(); ++other) {
    better += logits[other] > own || (logits[other] == own && static_cast<int32_t>(other) < token);
  }
  TokenLogprobs result;
  result.token = token;
  result.logprob = logprob(own);
  result.rank = better + 1;
  if (top > 0) {
    std::vector<Candidate>& best = scratch.candidates;
    GatherBest(logits, static_cast<size_t>(top), best);
    std::sort(best.begin(), best.end(), Better);
    result.top.reserve(best.size());
    for (const auto& [logit, id] : best) result.top.emplace_back(id, logprob(logit));
  }
  return result;
}

}  // namespace ballast
