// The arithmetic of sampling that every device does with these very operations; formulas in
// kernels/sampling.h. For the host's compiler and nvcc (C++17).
#pragma once

#include <cfloat>
#include <cstdint>

#include "kernels/sampling.h"

#ifdef __CUDACC__
#define BALLAST_EVERYWHERE __host__ __device__
#else
#define BALLAST_EVERYWHERE
#endif

namespace ballast {

inline constexpr float kWeightOne = 1099511627776.0f;  // 2^40, the weight of the largest logit

struct PhiloxWords {
  uint32_t word[4];
};

// Philox4x32-10 of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
BALLAST_EVERYWHERE inline PhiloxWords Philox4x32(PhiloxWords counter, uint32_t key0,
                                                 uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter.word[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter.word[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0,
                static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1,
                static_cast<uint32_t>(product0)}};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

// 64 uniform bits: the first two words, low first, of Philox with key = seed and counter =
// (position, output index, 0, 0). So a draw does not depend on what else was drawn.
BALLAST_EVERYWHERE inline uint64_t DrawBits(uint64_t seed, int32_t output_index, int32_t position) {
  const PhiloxWords words =
      Philox4x32({{static_cast<uint32_t>(position), static_cast<uint32_t>(output_index), 0, 0}},
                 static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  return uint64_t{words.word[1]} << 32 | words.word[0];
}

// floor(a * b / 2^64).
BALLAST_EVERYWHERE inline uint64_t MultiplyHigh(uint64_t a, uint64_t b) {
  const uint64_t a_low = a & 0xffffffffu;
  const uint64_t b_low = b & 0xffffffffu;
  const uint64_t middle = (a >> 32) * b_low + (a_low * b_low >> 32);
  const uint64_t carry = (a_low * (b >> 32) + (middle & 0xffffffffu)) >> 32;
  return (a >> 32) * (b >> 32) + (middle >> 32) + carry;
}

// The least mass that is top_p * total or more, at least 1. top_p < 1; what it has below 2^-64 is
// dropped.
BALLAST_EVERYWHERE inline uint64_t MassToReach(float top_p, uint64_t total) {
  const auto share = static_cast<uint64_t>(top_p * 18446744073709551616.0f);  // 2^64, exact
  const uint64_t mass = MultiplyHigh(share, total) + (share * total != 0 ? 1 : 0);
  return mass > 0 ? mass : 1;
}

BALLAST_EVERYWHERE inline float Mended(float logit) {
  if (logit != logit || logit < -FLT_MAX) return -FLT_MAX;
  return logit > FLT_MAX ? FLT_MAX : logit;
}

BALLAST_EVERYWHERE inline float Penalized(float logit, const SampleParameters& row,
                                          int32_t output_count) {
  logit = logit > 0.0f ? logit / row.repetition_penalty : logit * row.repetition_penalty;
  if (output_count > 0) {
    logit -= row.frequency_penalty * static_cast<float>(output_count);
    logit -= row.presence_penalty;
  }
  return Mended(logit);
}

}  // namespace ballast
