#include "kernels/cuda/sampling.h"

#include <cfloat>

#include "kernels/cuda/arithmetic.h"
#include "kernels/cuda/launch.h"
#include "kernels/sampling_arithmetic.h"

namespace ballast::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = 32;  // as many as a warp has lanes, which look at all warps' sums at once
constexpr int kBins = 2048;
constexpr int kNoToken = 0x7fffffff;  // above all
// How far below the largest logit, in temperatures, weights are surely 0: exp(-28.42) is 2^-41.
constexpr float kDepth = 29.0f;

// Shared memory of a block.
struct Space {
  uint64_t* sums;    // [kWarps]
  uint64_t* answer;  // [4] of the first warp to the others
  uint32_t* low;     // [kBins] halves of what bins hold
  uint32_t* high;    // [kBins]
  uint32_t* ends;    // [2]
};

// Ordered as floats are; zeros of both signs are equal.
__device__ inline uint32_t KeyOf(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);  // -0 + 0 is 0
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline float FromKey(uint32_t key) {
  return __uint_as_float(key >> 31 != 0 ? key & 0x7fffffffu : ~key);
}
__device__ inline float Lowest() { return __uint_as_float(0xff800000u); }  // -inf

template <typename T>
__device__ inline T Smaller(T a, T b) {
  return b < a ? b : a;
}

__device__ inline uint64_t MaxOfWarp(uint64_t value) {
  for (int flip = 16; flip >= 1; flip /= 2) {
    const uint64_t other = __shfl_xor_sync(kAllLanes, value, flip);
    value = other > value ? other : value;
  }
  return value;
}

// Alike in all threads.
__device__ uint64_t MaxOfBlock(uint64_t value, const Space& space) {
  const int thread = static_cast<int>(threadIdx.x);
  value = MaxOfWarp(value);
  if (thread % 32 == 0) space.sums[thread / 32] = value;
  __syncthreads();
  if (thread < 32) {
    value = MaxOfWarp(space.sums[thread]);
    if (thread == 0) space.answer[0] = value;
  }
  __syncthreads();
  return space.answer[0];
}

struct Found {
  int index;
  uint64_t before;  // the sum of those before it
  uint64_t value;   // its own
};

// The first index in [0, n) at which the sum of value(0 .. index) exceeds target(sum of all), which
// is below that sum. Alike in all threads. Warps share the range out; the part in which it lies is
// shared out in turn.
template <typename Value, typename Target>
__device__ Found FindFirst(int n, const Space& space, const Value& value, const Target& target) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  Found found = {0, 0, 0};
  uint64_t left = 0;  // of the target
  int size = n;
  bool first = true;
  do {
    const int part = (size + kWarps - 1) / kWarps;
    const int begin = found.index + warp * part;
    const int end = Smaller(begin + part, found.index + size);
    uint64_t sum = 0;
    for (int i = begin + lane; i < end; i += 32) sum += value(i);
    for (int flip = 16; flip >= 1; flip /= 2) sum += __shfl_xor_sync(kAllLanes, sum, flip);
    if (lane == 0) space.sums[warp] = sum;
    __syncthreads();
    if (warp == 0) {
      const uint64_t own = space.sums[lane];
      uint64_t upto = own;
      for (int by = 1; by < 32; by *= 2) {
        const uint64_t other = __shfl_sync(kAllLanes, upto, (lane - by) & 31);
        if (lane >= by) upto += other;
      }
      const uint64_t total = __shfl_sync(kAllLanes, upto, 31);
      if (first) left = target(total);
      const uint32_t beyond = __ballot_sync(kAllLanes, upto > left);
      const int at = beyond != 0 ? __ffs(static_cast<int>(beyond)) - 1 : 31;
      if (lane == at) {
        space.answer[0] = static_cast<uint64_t>(at);
        space.answer[1] = upto - own;
        space.answer[2] = own;
        space.answer[3] = total;
      }
    }
    __syncthreads();
    if (first && warp != 0) left = target(space.answer[3]);
    const int at = static_cast<int>(space.answer[0]);
    found.index += at * part;
    found.before += space.answer[1];
    found.value = space.answer[2];
    left -= space.answer[1];
    size = Smaller(part, size - at * part);
    first = false;
  } while (size > 1);
  return found;
}

struct Extent {
  float top;    // the largest logit
  int token;    // the lowest that has it
  float least;  // but for -inf
  bool finite;
};

__device__ Extent Measure(const float* logits, int vocab, const Space& space) {
  const int thread = static_cast<int>(threadIdx.x);
  float top = Lowest();
  float least = FLT_MAX;
  float odd = 0.0f;  // NaN once NaN or infinity have come
  int token = thread;
  for (int i = thread; i < vocab; i += kThreads) {
    const float logit = logits[i];
    odd += logit - logit;
    if (logit > top) {
      top = logit;
      token = i;
    }
    if (logit < least && logit >= -FLT_MAX) least = logit;
  }
  const uint64_t best =
      thread < vocab ? uint64_t{KeyOf(top)} << 32 | ~static_cast<uint32_t>(token) : 0;
  const uint64_t found = MaxOfBlock(best, space);
  const uint64_t rest = MaxOfBlock(uint64_t{odd != odd} << 32 | ~KeyOf(least), space);
  return {FromKey(static_cast<uint32_t>(found >> 32)),
          static_cast<int>(~static_cast<uint32_t>(found)), FromKey(~static_cast<uint32_t>(rest)),
          rest >> 32 == 0};
}

__device__ void Adjust(float* logits, const SampleParameters& row, const SampleSides& sides) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = row.bias.begin + thread; i < row.bias.end; i += kThreads) {
    const TokenBias added = sides.bias[i];
    logits[added.token] = Mended(logits[added.token] + added.bias);
  }
  __syncthreads();
  for (int i = row.history.begin + thread; i < row.history.end; i += kThreads) {
    const TokenCount seen = sides.history[i];
    logits[seen.token] = Penalized(logits[seen.token], row, seen.output_count);
  }
  __syncthreads();
  for (int i = row.banned.begin + thread; i < row.banned.end; i += kThreads) {
    logits[sides.banned[i]] = Lowest();
  }
  __syncthreads();
}

// The last token, best first, that is kept.
struct Cut {
  uint32_t key;
  int token;
};

// What a token is drawn from.
struct Choices {
  const float* logits;
  int vocab;
  float top;
  float least;
  float temperature;
  uint64_t least_weight;
  Cut cut;
};

__device__ inline bool Kept(const Cut& cut, uint32_t key, int token) {
  return key > cut.key || (key == cut.key && token <= cut.token);
}

// 0: it is never drawn.
__device__ inline uint64_t WeightOf(const Choices& choices, float logit) {
  const float below = logit - choices.top;
  if (below < -kDepth * choices.temperature) return 0;
  const uint64_t weight = __float2ull_rn(Exp(below / choices.temperature) * kWeightOne);
  return weight >= choices.least_weight ? weight : 0;
}

// How keys of a range are sorted into bins, the best into bin 0.
struct Bins {
  uint32_t low;  // the range, both ends included
  uint32_t high;
  int shift;  // bins of 2^shift keys each; negative: of 1 / scale of logits
  float top;  // the logit where bin 0 begins
  float scale;
};

// Never falls as the key falls, rounding included.
__device__ inline int BinOf(const Bins& bins, uint32_t key) {
  if (bins.shift >= 0) return static_cast<int>((bins.high - key) >> bins.shift);
  const float depth = (bins.top - FromKey(key)) * bins.scale;
  return depth < kBins - 1 ? static_cast<int>(depth) : kBins - 1;
}

// Native shared atomics have 32 bits. The sum is exact, so it does not depend on their order.
__device__ inline void AddToBin(const Space& space, int bin, uint64_t amount) {
  const auto low = static_cast<uint32_t>(amount);
  const uint32_t before = atomicAdd(space.low + bin, low);
  const uint32_t high = static_cast<uint32_t>(amount >> 32) + (before + low < low ? 1 : 0);
  if (high != 0) atomicAdd(space.high + bin, high);
}

// Sums up, for every bin, how many tokens fall in it, or what those weigh that may be drawn.
template <bool kByMass>
__device__ void FillBins(const Choices& choices, const Bins& bins, const Space& space) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int bin = thread; bin < kBins; bin += kThreads) space.low[bin] = space.high[bin] = 0;
  __syncthreads();
  for (int i = thread; i < choices.vocab; i += kThreads) {
    const float logit = choices.logits[i];
    const uint32_t key = KeyOf(logit);
    if (key < bins.low || key > bins.high || !Kept(choices.cut, key, i)) continue;
    const uint64_t amount = kByMass ? WeightOf(choices, logit) : 1;
    if (amount != 0) AddToBin(space, BinOf(bins, key), amount);
  }
  __syncthreads();
}

// Narrows the range to the keys of one bin, and chooses the bins of the next look.
__device__ void Narrow(Bins& bins, int bin, const Space& space) {
  if (bins.shift >= 0) {
    const uint32_t last = (1u << bins.shift) - 1;
    bins.high -= static_cast<uint32_t>(bin) << bins.shift;
    bins.low = bins.high - bins.low > last ? bins.high - last : bins.low;
  } else {
    // Two threads of different warps bisect for the ends.
    uint32_t low = bins.low;
    uint32_t high = bins.high;
    if (threadIdx.x == 0) {
      while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (BinOf(bins, middle) <= bin) {
          high = middle;
        } else {
          low = middle + 1;
        }
      }
      space.ends[0] = low;
    } else if (threadIdx.x == 32) {
      while (low < high) {
        const uint32_t middle = high - (high - low) / 2;
        if (BinOf(bins, middle) >= bin) {
          low = middle;
        } else {
          high = middle - 1;
        }
      }
      space.ends[1] = low;
    }
    __syncthreads();
    bins.low = space.ends[0];
    bins.high = space.ends[1];
  }
  bins.shift = 0;
  while ((bins.high - bins.low) >> bins.shift >= kBins) ++bins.shift;
}

// The last token, best first, of the top_k or, of those, the first that together reach top_p.
template <bool kByMass>
__device__ Cut FindCut(const Choices& choices, int top_k, float top_p, const Space& space) {
  const float range = choices.top - choices.least;
  const float depth = kByMass ? Smaller(range, kDepth * choices.temperature) : range;
  Bins bins = {choices.cut.key, KeyOf(choices.top), -1, choices.top,
               depth > 1e-30f ? kBins / depth : 0.0f};
  uint64_t wanted = static_cast<uint64_t>(top_k);
  uint64_t above = 0;  // of the range
  uint64_t inside = 0;
  do {
    FillBins<kByMass>(choices, bins, space);
    const bool first = bins.shift < 0;
    const Found found = FindFirst(
        kBins, space, [&](int bin) { return uint64_t{space.high[bin]} << 32 | space.low[bin]; },
        [&](uint64_t total) {
          if (kByMass && first) wanted = MassToReach(top_p, total);
          return wanted - above - 1;
        });
    above += found.before;
    inside = found.value;
    Narrow(bins, found.index, space);
    if (!kByMass && above + inside == wanted) return {bins.low, kNoToken};
  } while (bins.low < bins.high);
  // What is left has one logit, and so one weight.
  const uint64_t each = kByMass ? WeightOf(choices, FromKey(bins.low)) : 1;
  const uint64_t ties = (wanted - above + each - 1) / each;
  Cut cut = {bins.low, kNoToken};
  if (ties * each < inside) {
    cut.token = FindFirst(
                    choices.vocab, space,
                    [&](int i) { return KeyOf(choices.logits[i]) == cut.key ? 1 : 0; },
                    [ties](uint64_t) { return ties - 1; })
                    .index;
  }
  if (cut.key == choices.cut.key) cut.token = Smaller(cut.token, choices.cut.token);
  return cut;
}

__device__ int32_t DrawToken(const float* logits, int vocab, const Extent& extent,
                             const SampleParameters& row, const Space& space) {
  const uint64_t least = __float2ull_rn(row.min_p * kWeightOne);
  Choices choices = {logits,
                     vocab,
                     extent.top,
                     extent.least,
                     row.temperature,
                     least > 0 ? least : 1,
                     {KeyOf(Lowest()), kNoToken}};
  if (row.top_k > 0 && row.top_k < vocab) {
    choices.cut = FindCut<false>(choices, row.top_k, 1.0f, space);
  }
  if (row.top_p < 1.0f) choices.cut = FindCut<true>(choices, 0, row.top_p, space);
  const uint64_t draw = DrawBits(row.seed, row.output_index, row.position);
  const auto weight = [&](int i) {
    const float logit = choices.logits[i];
    return Kept(choices.cut, KeyOf(logit), i) ? WeightOf(choices, logit) : 0;
  };
  const auto target = [draw](uint64_t total) { return MultiplyHigh(draw, total); };
  return FindFirst(vocab, space, weight, target).index;
}

__device__ int32_t SampleRow(float* logits, int vocab, const SampleParameters& row,
                             const SampleSides& sides, const Space& space) {
  Extent extent = Measure(logits, vocab, space);
  if (!extent.finite) return kNotFinite;
  if (row.target >= 0) return row.target;
  if (row.bias.begin < row.bias.end || row.banned.begin < row.banned.end ||
      row.history.begin < row.history.end) {
    Adjust(logits, row, sides);
    extent = Measure(logits, vocab, space);
  }
  if (row.temperature <= 0.0f || extent.top < -FLT_MAX) return extent.token;
  return DrawToken(logits, vocab, extent, row, space);
}

__global__ void __launch_bounds__(kThreads)
    SampleKernel(float* logits, int64_t stride, int vocab, const SampleParameters* rows,
                 SampleSides sides, int32_t* tokens) {
  SHARED_ARRAY(uint64_t, sums, kWarps);
  SHARED_ARRAY(uint64_t, answer, 4);
  SHARED_ARRAY(uint32_t, low, kBins);
  SHARED_ARRAY(uint32_t, high, kBins);
  SHARED_ARRAY(uint32_t, ends, 2);
  const int32_t token = SampleRow(logits + blockIdx.x * stride, vocab, rows[blockIdx.x], sides,
                                  {sums, answer, low, high, ends});
  if (threadIdx.x == 0) tokens[blockIdx.x] = token;
}

}  // namespace

cudaError_t Sample(cudaStream_t stream, MatView logits, const SampleParameters* rows,
                   const SampleSides& sides, int32_t* tokens) {
  if (logits.rows == 0) return cudaSuccess;
  return Launch("sample", SampleKernel, {dim3(static_cast<unsigned>(logits.rows)), dim3(kThreads)},
                stream, static_cast<float*>(logits.data), logits.stride,
                static_cast<int>(logits.cols), rows, sides, tokens);
}

}  // namespace ballast::cuda
