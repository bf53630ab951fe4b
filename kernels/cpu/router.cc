// Router logits to expert choices; formula in device.h (RouterConfig).
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/number.h"
#include "kernels/cpu/stream.h"
#include "kernels/cpu/verbs.h"

namespace ballast::cpu {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();
constexpr int64_t kRowsPerItem = 16;

struct RowSpace {
  float* scores;   // [experts]
  float* choices;  // [experts]
  float* groups;   // [groups]
  bool* taken;     // [max(experts, groups)]
};

// The index of the largest value not yet taken, the lowest of equals. Always finds one.
int32_t TakeLargest(const float* values, int32_t n, bool* taken) {
  int32_t best = -1;
  for (int32_t i = 0; i < n; ++i) {
    if (!taken[i] && (best < 0 || values[i] > values[best])) best = i;
  }
  taken[best] = true;
  return best;
}

// Sets the choices of all but the best `topk_group` groups to -inf.
void LimitGroups(const RouterConfig& config, const RowSpace& space) {
  const int32_t size = config.experts / config.groups;
  for (int32_t g = 0; g < config.groups; ++g) {
    float first = kLowest;
    float second = kLowest;
    for (int32_t i = g * size; i < (g + 1) * size; ++i) {
      const float choice = space.choices[i];
      if (choice > first) {
        second = first;
        first = choice;
      } else if (choice > second) {
        second = choice;
      }
    }
    space.groups[g] = size > 1 ? first + second : first;
  }
  std::fill_n(space.taken, config.groups, false);
  for (int32_t i = 0; i < config.topk_group; ++i) {
    TakeLargest(space.groups, config.groups, space.taken);
  }
  for (int32_t g = 0; g < config.groups; ++g) {
    if (!space.taken[g]) std::fill_n(space.choices + g * size, size, kLowest);
  }
}

void RouteRow(const InnerLoops& loops, const float* logits, const RouterConfig& config,
              const float* bias, const RowSpace& space, int32_t* ids, float* weights) {
  const int32_t experts = config.experts;
  if (config.score == RouterScore::kSigmoid) {
    loops.sigmoid(logits, experts, space.scores);
  } else {
    std::copy_n(logits, experts, space.scores);
    float max;
    float sum;
    loops.exponentials(space.scores, 0, experts, 1.0f, nullptr, &max, &sum);
    loops.divide(space.scores, experts, sum, false, space.scores);
  }
  for (int32_t i = 0; i < experts; ++i) {
    const float choice = bias == nullptr ? space.scores[i] : space.scores[i] + bias[i];
    space.choices[i] = std::isnan(choice) ? kLowest : choice;
  }
  if (config.groups > 1) LimitGroups(config, space);
  std::fill_n(space.taken, experts, false);
  float total = 0.0f;
  for (int32_t j = 0; j < config.k; ++j) {
    ids[j] = TakeLargest(space.choices, experts, space.taken);
    weights[j] = space.scores[ids[j]];
    total += weights[j];
  }
  for (int32_t j = 0; j < config.k; ++j) {
    if (config.normalize) weights[j] /= total + config.normalize_epsilon;
    weights[j] *= config.scale;
  }
}

}  // namespace

void Route(Stream handle, MatView logits, const RouterConfig& config, const float* bias,
           int32_t* ids, float* weights) {
  CpuStream& stream = StreamOf(handle);
  const int64_t items = (logits.rows + kRowsPerItem - 1) / kRowsPerItem;
  stream.pool.For(items, [&](int64_t item, int thread) {
    Scratch& scratch = stream.scratch[static_cast<size_t>(thread)];
    const int64_t width = std::max(config.experts, config.groups);
    scratch.Reserve(static_cast<size_t>(width) * (3 * sizeof(float) + sizeof(bool)));
    float* const floats = reinterpret_cast<float*>(scratch.data());
    const RowSpace space{floats, floats + width, floats + 2 * width,
                         reinterpret_cast<bool*>(floats + 3 * width)};
    const int64_t end = std::min(logits.rows, (item + 1) * kRowsPerItem);
    for (int64_t row = item * kRowsPerItem; row < end; ++row) {
      RouteRow(stream.loops, static_cast<const float*>(logits.data) + row * logits.stride, config,
               bias, space, ids + row * config.k, weights + row * config.k);
    }
  });
}

}  // namespace ballast::cpu
