#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/softmax.h"
#include "engine/status.h"

namespace ballast {
namespace {

using Candidate = std::pair<float, int32_t>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

bool Better(const Candidate& a, const Candidate& b) {
  return a.first > b.first || (a.first == b.first && a.second < b.second);
}

float Mended(float logit) {
  return std::isnan(logit) ? -kLargest : std::clamp(logit, -kLargest, kLargest);
}

std::span<const float> MendedLogits(std::span<const float> logits, SampleScratch& scratch) {
  // x - x is 0 but for NaN and infinities; the sum lets the compiler use vectors.
  int32_t odd = 0;
  for (const float logit : logits) {
    odd += logit - logit == 0.0f ? 0 : 1;
  }
  if (odd == 0) {
    return logits;
  }
  scratch.finite.resize(logits.size());
  std::transform(logits.begin(), logits.end(), scratch.finite.begin(), Mended);
  return scratch.finite;
}

int32_t Argmax(std::span<const float> logits) {
  const auto best = std::find(logits.begin(), logits.end(), MaxLogit(logits));
  return static_cast<int32_t>(best - logits.begin());
}

template <typename T>
std::span<const T> Part(std::span<const T> all, Range range) {
  return all.subspan(range.begin, range.size());
}

void Penalize(const SampleRow& row, const TokenCount& seen, float& logit) {
  logit = logit > 0 ? logit / row.repetition_penalty : logit * row.repetition_penalty;
  if (seen.output_count > 0) {
    logit -= row.frequency_penalty * static_cast<float>(seen.output_count);
    logit -= row.presence_penalty;
  }
  logit = Mended(logit);
}

// The logits to draw from: raw ones when nothing changes them.
std::span<const float> Adjust(std::span<const float> raw, const SampleRow& row,
                              const SampleContext& context, SampleScratch& scratch) {
  if (row.bias.size() + row.banned.size() + row.history.size() == 0) {
    return raw;
  }
  std::vector<float>& logits = scratch.logits;
  logits.assign(raw.begin(), raw.end());
  for (const auto& [token, bias] : Part(context.bias, row.bias)) {
    logits[token] = Mended(logits[token] + bias);
  }
  for (const TokenCount& seen : Part(context.history, row.history)) {
    Penalize(row, seen, logits[seen.token]);
  }
  for (const int32_t token : Part(context.banned, row.banned)) {
    logits[token] = -kInfinity;
  }
  return logits;
}

// Fills `best` with the `count` best of the tokens that `keeps(token)`; the last of them is the
// worst, the others are in no order. Fewer when there are fewer.
template <typename Keeps>
void GatherBest(std::span<const float> logits, size_t count, Keeps keeps,
                std::vector<Candidate>& best) {
  best.clear();
  const auto shrink = [&best, count] {
    std::nth_element(best.begin(), best.begin() + static_cast<ptrdiff_t>(count - 1), best.end(),
                     Better);
    best.resize(count);
  };
  // The buffer shrinks whenever it holds twice what is wanted, so few tokens pass the bar and the
  // cost per token stays constant. Equal logits come with higher ids and do not pass.
  const size_t full = std::min(2 * count + 64, logits.size());
  float bar = -kInfinity;
  for (size_t token = 0; token < logits.size(); ++token) {
    if (logits[token] > bar && keeps(token)) {
      best.emplace_back(logits[token], static_cast<int32_t>(token));
      if (best.size() >= full && best.size() > count) {
        shrink();
        bar = best.back().first;
      }
    }
  }
  if (best.size() > count) {
    shrink();
  } else if (!best.empty()) {
    std::iter_swap(std::max_element(best.begin(), best.end(), Better), best.end() - 1);
  }
}

// The worst member of the smallest set of best candidates whose weights reach `mass`. Reorders
// `candidates`; bisects, so the cost is linear in their number.
Candidate LastToReach(double mass, std::span<const float> weights,
                      std::vector<Candidate>& candidates) {
  constexpr size_t kSortBelow = 64;
  size_t low = 0;  // those before are in the set
  size_t high = candidates.size();
  const auto at = [&candidates](size_t i) {
    return candidates.begin() + static_cast<ptrdiff_t>(i);
  };
  while (high - low > kSortBelow) {
    const size_t middle = low + (high - low) / 2;
    std::nth_element(at(low), at(middle), at(high), Better);
    double sum = 0;
    for (size_t i = low; i < middle; ++i) {
      sum += static_cast<double>(weights[candidates[i].second]);
    }
    if (sum >= mass) {
      high = middle;
    } else {
      mass -= sum;
      low = middle;
    }
  }
  std::sort(at(low), at(high), Better);
  for (size_t i = low; i < high; ++i) {
    mass -= static_cast<double>(weights[candidates[i].second]);
    if (mass <= 0) {
      return candidates[i];
    }
  }
  return candidates[high - 1];
}

// The last of the candidates, best first, that top_p keeps. Those with a weight of `least` or more
// are candidates. Logits are sorted into buckets first, so that only one bucket must be ordered.
Candidate CutTopP(std::span<const float> logits, std::span<const float> weights, float least,
                  double top_p, std::vector<Candidate>& candidates) {
  constexpr size_t kBuckets = 1024;
  float high = -kInfinity;
  float low = kInfinity;
  for (size_t token = 0; token < logits.size(); ++token) {
    if (weights[token] >= least) {
      high = std::max(high, logits[token]);
      low = std::min(low, logits[token]);
    }
  }
  const float width = std::max((high - low) / (kBuckets - 1), std::numeric_limits<float>::min());
  // Never rises with the logit, rounding included.
  const auto bucket_of = [high, width](float logit) {
    return std::min(static_cast<size_t>((high - logit) / width), kBuckets - 1);
  };
  std::array<double, kBuckets> masses{};
  for (size_t token = 0; token < logits.size(); ++token) {
    if (weights[token] >= least) {
      masses[bucket_of(logits[token])] += static_cast<double>(weights[token]);
    }
  }
  double mass = top_p * std::accumulate(masses.begin(), masses.end(), 0.0);
  size_t last = 0;
  for (; last + 1 < kBuckets && masses[last] < mass; ++last) {
    mass -= masses[last];
  }
  // Rounding may walk past the end.
  while (masses[last] == 0) {
    --last;
  }
  candidates.clear();
  for (size_t token = 0; token < logits.size(); ++token) {
    if (weights[token] >= least && bucket_of(logits[token]) == last) {
      candidates.emplace_back(logits[token], static_cast<int32_t>(token));
    }
  }
  return LastToReach(mass, weights, candidates);
}

// The worst token that min_p, top_k and top_p all keep: each keeps the head of one and the same
// ranking.
Candidate FindCut(std::span<const float> logits, std::span<const float> weights,
                  const SampleRow& row, std::vector<Candidate>& candidates) {
  const float least = std::max(row.min_p, std::numeric_limits<float>::denorm_min());
  const double top_p = static_cast<double>(row.top_p);
  if (row.top_k <= 0) {
    return CutTopP(logits, weights, least, top_p, candidates);
  }
  GatherBest(
      logits, std::min<size_t>(row.top_k, logits.size()),
      [weights, least](size_t token) { return weights[token] >= least; }, candidates);
  if (row.top_p >= 1.0f) {
    return candidates.back();
  }
  double mass = 0;
  for (const Candidate& candidate : candidates) {
    mass += static_cast<double>(weights[candidate.second]);
  }
  return LastToReach(mass * top_p, weights, candidates);
}

int32_t DrawToken(std::span<const float> logits, const SampleRow& row, SampleScratch& scratch) {
  const float max = MaxLogit(logits);
  if (max == -kInfinity) {
    return 0;
  }
  scratch.weights.resize(logits.size());
  const std::span<float> weights = scratch.weights;
  ExpWeights(logits, max, row.temperature, weights);
  if (row.top_k > 0 || row.top_p < 1.0f) {
    const auto [last_logit, last_token] = FindCut(logits, weights, row, scratch.candidates);
    for (size_t token = 0; token < weights.size(); ++token) {
      const bool kept = logits[token] > last_logit ||
                        (logits[token] == last_logit && static_cast<int32_t>(token) <= last_token);
      weights[token] = kept ? weights[token] : 0.0f;
    }
  } else if (row.min_p > 0.0f) {
    for (float& weight : weights) {
      weight = weight >= row.min_p ? weight : 0.0f;
    }
  }
  const double target = UniformDraw(row.seed, row.output_index, row.position) * Sum(weights);
  double cumulated = 0;
  size_t last = 0;
  // Rounding may leave the target just above the walk's own sum: the last kept token then.
  for (size_t token = 0; token < weights.size() && cumulated <= target; ++token) {
    if (weights[token] > 0) {
      cumulated += static_cast<double>(weights[token]);
      last = token;
    }
  }
  return static_cast<int32_t>(last);
}

TokenLogprobs ScoreToken(std::span<const float> logits, int32_t token, int32_t top,
                         std::vector<Candidate>& candidates) {
  const float max = MaxLogit(logits);
  const double log_sum = std::log(SumExp(logits, max));
  const auto logprob = [max, log_sum](float logit) {
    return static_cast<float>(
        std::max(static_cast<double>(logit) - static_cast<double>(max) - log_sum,
                 -static_cast<double>(kLargest)));
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
    GatherBest(
        logits, std::min<size_t>(top, logits.size()), [](size_t) { return true; }, candidates);
    std::sort(candidates.begin(), candidates.end(), Better);
    result.top.reserve(candidates.size());
    for (const auto& [logit, id] : candidates) {
      result.top.emplace_back(id, logprob(logit));
    }
  }
  return result;
}

}  // namespace

Sampled Sample(std::span<const float> logits, const SampleRow& row, const SampleContext& context,
               SampleScratch& scratch) {
  CHECK(!logits.empty() && row.target < static_cast<int32_t>(logits.size()));
  const std::span<const float> raw = MendedLogits(logits, scratch);
  Sampled sampled;
  sampled.token = row.target;
  if (row.target < 0) {
    const std::span<const float> adjusted = Adjust(raw, row, context, scratch);
    sampled.token = row.temperature > 0.0f ? DrawToken(adjusted, row, scratch) : Argmax(adjusted);
  }
  const bool mended = raw.data() != logits.data();
  if (row.logprobs >= 0) {
    sampled.logprobs = ScoreToken(raw, sampled.token, row.logprobs, scratch.candidates);
  }
  if (mended) sampled.token = kNotFinite;
  return sampled;
}

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53;
  constexpr uint64_t kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9;
  constexpr uint32_t kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key = {key[0] + kWeyl0, key[1] + kWeyl1};
  }
  return counter;
}

double UniformDraw(uint64_t seed, int32_t output_index, int32_t position) {
  const auto words =
      Philox4x32({static_cast<uint32_t>(position), static_cast<uint32_t>(output_index), 0, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = (uint64_t{words[1]} << 32 | words[0]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace ballast
