// Logits to tokens; what is computed is stated in kernels/sampling.h, how it is found is here.
#include "kernels/sampling.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <span>

#include "kernels/cpu/number.h"
#include "kernels/cpu/stream.h"
#include "kernels/cpu/verbs.h"
#include "kernels/sampling_arithmetic.h"

namespace ballast::cpu {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

struct Candidate {
  float logit;
  int32_t token;
};

bool Better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

// Working memory of one row.
struct RowSpace {
  std::span<float> weights;         // [vocab]
  std::span<float> logits;          // [vocab] of the top_k, ids ascending
  std::span<int32_t> tokens;        // [vocab] theirs
  std::span<Candidate> candidates;  // [vocab]

  static size_t Bytes(int64_t vocab) {
    return static_cast<size_t>(RoundUp(vocab, 2)) * (3 * sizeof(float) + sizeof(Candidate));
  }
  RowSpace(char* data, int64_t vocab) {
    const auto n = static_cast<size_t>(vocab);
    const auto step = static_cast<size_t>(RoundUp(vocab, 2)) * sizeof(float);
    weights = {reinterpret_cast<float*>(data), n};
    logits = {reinterpret_cast<float*>(data + step), n};
    tokens = {reinterpret_cast<int32_t*>(data + 2 * step), n};
    candidates = {reinterpret_cast<Candidate*>(data + 3 * step), n};
  }
};

// What is drawn from: logits and their weights, ids ascending.
struct Choices {
  std::span<const float> logits;
  std::span<float> weights;
  const int32_t* tokens;  // null: 0, 1, ...
};

// The sum of weights, exact: doubles hold the sum of so many.
constexpr size_t kPiece = 4096;

uint64_t SumOfPiece(std::span<const float> weights) {
  constexpr size_t kSums = 8;
  double sums[kSums] = {};
  size_t i = 0;
  for (; i + kSums <= weights.size(); i += kSums) {
    for (size_t lane = 0; lane < kSums; ++lane)
      sums[lane] += static_cast<double>(weights[i + lane]);
  }
  for (; i < weights.size(); ++i) sums[0] += static_cast<double>(weights[i]);
  double sum = 0;
  for (const double part : sums) sum += part;
  return static_cast<uint64_t>(sum);
}

std::span<const float> PieceAt(std::span<const float> weights, size_t begin) {
  return weights.subspan(begin, std::min(kPiece, weights.size() - begin));
}

uint64_t Sum(std::span<const float> weights) {
  uint64_t sum = 0;
  for (size_t i = 0; i < weights.size(); i += kPiece) sum += SumOfPiece(PieceAt(weights, i));
  return sum;
}

uint64_t Mass(float weight) { return static_cast<uint64_t>(static_cast<int64_t>(weight)); }

// The worst of the `count` best; `best` is memory for as many as there are logits.
Candidate LastOfBest(std::span<const float> logits, size_t count, std::span<Candidate> best) {
  size_t size = 0;
  const auto shrink = [&] {
    std::nth_element(best.begin(), best.begin() + static_cast<ptrdiff_t>(count - 1),
                     best.begin() + static_cast<ptrdiff_t>(size), Better);
    size = count;
  };
  // What is gathered shrinks whenever it is twice what is wanted, so few tokens pass the bar and
  // the cost per token stays constant. Equal logits come with higher ids and do not pass.
  const size_t full = 2 * count + 64;
  float bar = kLowest;
  for (size_t token = 0; token < logits.size(); ++token) {
    if (logits[token] > bar || size < count) {
      best[size++] = {logits[token], static_cast<int32_t>(token)};
      if (size >= full) {
        shrink();
        bar = best[count - 1].logit;
      }
    }
  }
  shrink();
  return best[count - 1];
}

// The worst member of the smallest set of best candidates whose weights reach `mass`, which all
// together do. Bisects, so the cost is linear in their number.
Candidate LastToReach(uint64_t mass, std::span<const float> weights,
                      std::span<Candidate> candidates) {
  constexpr size_t kSortBelow = 64;
  while (candidates.size() > kSortBelow) {
    const size_t middle = candidates.size() / 2;
    std::nth_element(candidates.begin(), candidates.begin() + static_cast<ptrdiff_t>(middle),
                     candidates.end(), Better);
    uint64_t sum = 0;
    for (const Candidate& better : candidates.first(middle)) {
      sum += Mass(weights[static_cast<size_t>(better.token)]);
    }
    if (sum >= mass) {
      candidates = candidates.first(middle);
    } else {
      mass -= sum;
      candidates = candidates.subspan(middle);
    }
  }
  std::sort(candidates.begin(), candidates.end(), Better);
  size_t last = 0;
  for (; last + 1 < candidates.size(); ++last) {
    const uint64_t weight = Mass(weights[static_cast<size_t>(candidates[last].token)]);
    if (weight >= mass) break;
    mass -= weight;
  }
  return candidates[last];
}

// The last choice, best first, that top_p keeps, as an index of `choices`. Logits are sorted into
// buckets first, so that only one bucket must be ordered.
Candidate LastOfTopP(const Choices& choices, float max, const SampleParameters& row,
                     std::span<Candidate> candidates) {
  constexpr size_t kBuckets = 1024;
  // Weights end where exp is 2^-41.
  constexpr float kDepth = 29.0f;
  const float scale = std::min(kBuckets / (kDepth * row.temperature), FLT_MAX);
  // Never falls as the logit falls, rounding included.
  const auto bucket_of = [max, scale](float logit) {
    const float depth = (max - logit) * scale;
    return depth < kBuckets - 1 ? static_cast<size_t>(depth) : kBuckets - 1;
  };
  uint64_t masses[kBuckets] = {};
  for (size_t i = 0; i < choices.logits.size(); ++i) {
    if (choices.weights[i] > 0) masses[bucket_of(choices.logits[i])] += Mass(choices.weights[i]);
  }
  uint64_t total = 0;
  for (const uint64_t part : masses) total += part;
  uint64_t mass = MassToReach(row.top_p, total);
  size_t last = 0;
  for (; last + 1 < kBuckets && masses[last] < mass; ++last) mass -= masses[last];
  size_t size = 0;
  for (size_t i = 0; i < choices.logits.size(); ++i) {
    if (choices.weights[i] > 0 && bucket_of(choices.logits[i]) == last) {
      candidates[size++] = {choices.logits[i], static_cast<int32_t>(i)};
    }
  }
  return LastToReach(mass, choices.weights, candidates.first(size));
}

int32_t Draw(const Choices& choices, uint64_t bits) {
  uint64_t target = MultiplyHigh(bits, Sum(choices.weights));
  size_t i = 0;
  for (; i + kPiece < choices.weights.size(); i += kPiece) {
    const uint64_t mass = SumOfPiece(PieceAt(choices.weights, i));
    if (mass > target) break;
    target -= mass;
  }
  for (; i + 1 < choices.weights.size(); ++i) {
    const uint64_t mass = Mass(choices.weights[i]);
    if (mass > target) break;
    target -= mass;
  }
  return choices.tokens != nullptr ? choices.tokens[i] : static_cast<int32_t>(i);
}

// The top_k largest logits, ids ascending.
Choices TakeTopK(std::span<const float> logits, size_t top_k, const RowSpace& space) {
  const Candidate last = LastOfBest(logits, top_k, space.candidates);
  size_t size = 0;
  for (size_t token = 0; token < logits.size(); ++token) {
    const Candidate candidate{logits[token], static_cast<int32_t>(token)};
    if (candidate.logit < last.logit || Better(last, candidate)) continue;
    space.logits[size] = candidate.logit;
    space.tokens[size++] = candidate.token;
  }
  return {space.logits.first(size), space.weights.first(size), space.tokens.data()};
}

int32_t DrawToken(const InnerLoops& loops, std::span<const float> logits, float max,
                  const SampleParameters& row, const RowSpace& space) {
  Choices choices{logits, space.weights, nullptr};
  if (row.top_k > 0 && static_cast<size_t>(row.top_k) < logits.size()) {
    choices = TakeTopK(logits, static_cast<size_t>(row.top_k), space);
  }
  loops.sample_weights(choices.logits.data(), static_cast<int64_t>(choices.logits.size()), max,
                       row.temperature, choices.weights.data());
  if (row.min_p > 0.0f) {
    const float least = std::nearbyint(row.min_p * kWeightOne);
    for (float& weight : choices.weights) weight = weight >= least ? weight : 0.0f;
  }
  if (row.top_p < 1.0f) {
    const Candidate last = LastOfTopP(choices, max, row, space.candidates);
    for (size_t i = 0; i < choices.logits.size(); ++i) {
      const bool kept = choices.logits[i] > last.logit ||
                        (choices.logits[i] == last.logit && static_cast<int32_t>(i) <= last.token);
      choices.weights[i] = kept ? choices.weights[i] : 0.0f;
    }
  }
  return Draw(choices, DrawBits(row.seed, row.output_index, row.position));
}

void Adjust(std::span<float> logits, const SampleParameters& row, const SampleSides& sides) {
  const auto at = [logits](int32_t token) -> float& { return logits[static_cast<size_t>(token)]; };
  for (int32_t i = row.bias.begin; i < row.bias.end; ++i) {
    float& logit = at(sides.bias[i].token);
    logit = Mended(logit + sides.bias[i].bias);
  }
  for (int32_t i = row.history.begin; i < row.history.end; ++i) {
    float& logit = at(sides.history[i].token);
    logit = Penalized(logit, row, sides.history[i].output_count);
  }
  for (int32_t i = row.banned.begin; i < row.banned.end; ++i) at(sides.banned[i]) = kLowest;
}

int32_t SampleRow(const InnerLoops& loops, std::span<float> logits, const SampleParameters& row,
                  const SampleSides& sides, Scratch& scratch) {
  const auto vocab = static_cast<int64_t>(logits.size());
  bool finite;
  float max = loops.largest(logits.data(), vocab, &finite);
  if (!finite) return kNotFinite;
  if (row.target >= 0) return row.target;
  if (row.bias.size() + row.banned.size() + row.history.size() > 0) {
    Adjust(logits, row, sides);
    max = loops.largest(logits.data(), vocab, &finite);
  }
  if (row.temperature <= 0.0f || max == kLowest) {
    return static_cast<int32_t>(std::find(logits.begin(), logits.end(), max) - logits.begin());
  }
  scratch.Reserve(RowSpace::Bytes(vocab));
  return DrawToken(loops, logits, max, row, RowSpace(scratch.data(), vocab));
}

}  // namespace

void Sample(Stream handle, MatView logits, const SampleParameters* rows, const SampleSides& sides,
            int32_t* tokens) {
  CpuStream& stream = StreamOf(handle);
  stream.pool.For(logits.rows, [&](int64_t i, int thread) {
    float* const row = static_cast<float*>(logits.data) + i * logits.stride;
    tokens[i] = SampleRow(stream.loops, {row, static_cast<size_t>(logits.cols)}, rows[i], sides,
                          stream.scratch[static_cast<size_t>(thread)]);
  });
}

}  // namespace ballast::cpu
