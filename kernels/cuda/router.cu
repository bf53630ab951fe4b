#include "kernels/cuda/router.h"

#include "kernels/cuda/arithmetic.h"
#include "kernels/cuda/launch.h"

namespace ballast::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr size_t kMaxSharedBytes = size_t{48} << 10;

__device__ inline float Lowest() { return __uint_as_float(0xff800000u); }  // -inf

// What one warp works with. Lanes share `scores`, `choices` and `groups`.
struct Row {
  float* scores;   // [experts]
  float* choices;  // [experts]; what is taken becomes NaN
  float* groups;   // [groups]
  int lane;
};

// A value and where it stands; the larger is better, the lower index of equals.
struct Best {
  float value;
  int index;  // -1: nothing
};

__device__ inline bool IsBetter(float value, int index, const Best& than) {
  if (index < 0) return false;
  return than.index < 0 || value > than.value || (value == than.value && index < than.index);
}

// The best of values[0, n) that is not NaN, alike in all lanes.
__device__ Best FindBest(const float* values, int n, int lane) {
  Best best = {0.0f, -1};
  for (int i = lane; i < n; i += 32) {
    if (values[i] == values[i] && IsBetter(values[i], i, best)) best = {values[i], i};
  }
  for (int flip = 16; flip >= 1; flip /= 2) {
    const float value = __shfl_xor_sync(kAllLanes, best.value, flip);
    const int index = __shfl_xor_sync(kAllLanes, best.index, flip);
    if (IsBetter(value, index, best)) best = {value, index};
  }
  return best;
}

// As FindBest, and no later call finds it again.
__device__ Best TakeBest(float* values, int n, int lane) {
  const Best best = FindBest(values, n, lane);
  __syncwarp(kAllLanes);
  if (lane == 0) values[best.index] = __uint_as_float(0x7fc00000u);
  __syncwarp(kAllLanes);
  return best;
}

__device__ void Softmax(const float* logits, int n, const Row& row) {
  float top = Lowest();
  for (int i = row.lane; i < n; i += 32) top = logits[i] > top ? logits[i] : top;
  for (int flip = 16; flip >= 1; flip /= 2) {
    const float other = __shfl_xor_sync(kAllLanes, top, flip);
    top = other > top ? other : top;
  }
  float lane_sum = 0.0f;
  for (int i = row.lane; row.lane < kSumLanes && i < n; i += kSumLanes) {
    row.scores[i] = Exp(logits[i] - top);
    lane_sum += row.scores[i];
  }
  const float sum = __shfl_sync(kAllLanes, SumOfLanes(lane_sum), 0);
  __syncwarp(kAllLanes);
  for (int i = row.lane; i < n; i += 32) row.scores[i] = row.scores[i] / sum;
}

// Sets the choices of all but the best `topk_group` groups to -inf.
__device__ void LimitGroups(const RouterConfig& config, const Row& row) {
  const int size = config.experts / config.groups;
  for (int g = row.lane; g < config.groups; g += 32) {
    float first = Lowest();
    float second = Lowest();
    for (int i = g * size; i < (g + 1) * size; ++i) {
      const float choice = row.choices[i];
      if (choice > first) {
        second = first;
        first = choice;
      } else if (choice > second) {
        second = choice;
      }
    }
    row.groups[g] = size > 1 ? first + second : first;
  }
  __syncwarp(kAllLanes);
  for (int i = 0; i < config.topk_group; ++i) TakeBest(row.groups, config.groups, row.lane);
  for (int i = row.lane; i < config.experts; i += 32) {
    const float group = row.groups[i / size];
    if (group == group) row.choices[i] = Lowest();  // was not taken
  }
  __syncwarp(kAllLanes);
}

__global__ void __launch_bounds__(kThreads)
    RouteKernel(const float* logits, int64_t rows, int64_t stride, RouterConfig config,
                const float* bias, int32_t* ids, float* weights) {
  DYNAMIC_SHARED(float, shared);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t number = int64_t{blockIdx.x} * kWarps + warp;
  if (number >= rows) return;  // whole warps, and blocks have no barrier
  const int experts = config.experts;
  float* const space = shared + warp * (2 * experts + config.groups);
  const Row row = {space, space + experts, space + 2 * experts, static_cast<int>(threadIdx.x) % 32};
  const float* const from = logits + number * stride;
  if (config.score == RouterScore::kSigmoid) {
    for (int i = row.lane; i < experts; i += 32) row.scores[i] = 1.0f / (1.0f + Exp(-from[i]));
  } else {
    Softmax(from, experts, row);
  }
  __syncwarp(kAllLanes);
  for (int i = row.lane; i < experts; i += 32) {
    const float choice = bias == nullptr ? row.scores[i] : row.scores[i] + bias[i];
    row.choices[i] = choice == choice ? choice : Lowest();
  }
  __syncwarp(kAllLanes);
  if (config.groups > 1) LimitGroups(config, row);
  int32_t* const row_ids = ids + number * config.k;
  float* const row_weights = weights + number * config.k;
  float total = 0.0f;
  for (int j = 0; j < config.k; ++j) {
    const Best best = TakeBest(row.choices, experts, row.lane);
    const float weight = row.scores[best.index];
    total += weight;
    if (row.lane == 0) {
      row_ids[j] = best.index;
      row_weights[j] = weight;
    }
  }
  if (row.lane != 0) return;
  for (int j = 0; j < config.k; ++j) {
    float weight = row_weights[j];
    if (config.normalize) weight /= total + config.normalize_epsilon;
    row_weights[j] = weight * config.scale;
  }
}

}  // namespace

cudaError_t Route(cudaStream_t stream, MatView logits, const RouterConfig& config,
                  const float* bias, int32_t* ids, float* weights) {
  if (logits.rows == 0) return cudaSuccess;
  const size_t shared_bytes =
      sizeof(float) * kWarps * static_cast<size_t>(2 * config.experts + config.groups);
  if (shared_bytes > kMaxSharedBytes) return cudaErrorInvalidValue;
  const auto blocks = static_cast<unsigned>((logits.rows + kWarps - 1) / kWarps);
  return Launch("route", RouteKernel, {dim3(blocks), dim3(kThreads), shared_bytes}, stream,
                static_cast<const float*>(logits.data), logits.rows, logits.stride, config, bias,
                ids, weights);
}

}  // namespace ballast::cuda
