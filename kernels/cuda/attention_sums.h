// The inner loops of attention in chains of fused multiply-adds: the products of one tile with one
// partition of keys. For attention.cu. Scores ends with a barrier.
#pragma once

#include <cstdint>

#include "kernels/cuda/attention_tile.h"

namespace ballast::cuda {

constexpr int kKeysPerThread = kAttentionPartition / kAttentionThreads;
// Loads under way at once per thread: what a chain waits for is their slowest, not their sum.
constexpr int kStepsAhead = 8;
constexpr int kKeysAhead = 8;
static_assert(kKvBlockTokens % kKeysAhead == 0, "keys read at once lie in one block");

// Two bf16 of a word, or one float.
__device__ inline void Unpack(uint32_t word, float (&to)[2]) {
  to[0] = __uint_as_float(word << 16);
  to[1] = __uint_as_float(word & 0xffff0000u);
}
__device__ inline void Unpack(uint32_t word, float (&to)[1]) { to[0] = __uint_as_float(word); }

template <int kCount>
__device__ void LoadRow(const float* at, float (&to)[kCount]) {
  if constexpr (kCount % 4 == 0) {
    for (int i = 0; i < kCount; i += 4) {
      const float4 four = LoadVector<float4>(at + i);
      to[i] = four.x;
      to[i + 1] = four.y;
      to[i + 2] = four.z;
      to[i + 3] = four.w;
    }
  } else {
    for (int i = 0; i < kCount; ++i) to[i] = at[i];
  }
}

// scores[row][j] += q * key j over dimensions [d, d + kSteps * dimensions of a step).
template <typename T, int kRows, int kSteps>
__device__ void AddScores(const float* q, const char* const (&keys)[kKeysPerThread], int d,
                          int k_dim, float (&scores)[kRows][kKeysPerThread]) {
  constexpr int kDims = static_cast<int>(4 / sizeof(T));
  uint32_t words[kSteps][kKeysPerThread];
  for (int step = 0; step < kSteps; ++step) {
    for (int j = 0; j < kKeysPerThread; ++j) {
      const int64_t at = int64_t{d / kDims + step} * kKeyStepBytes;
      words[step][j] = *reinterpret_cast<const uint32_t*>(keys[j] + at);
    }
  }
  for (int step = 0; step < kSteps; ++step) {
    float elements[kKeysPerThread][kDims];
    for (int j = 0; j < kKeysPerThread; ++j) Unpack(words[step][j], elements[j]);
    for (int i = 0; i < kDims; ++i) {
      const int dim = d + step * kDims + i;
      if (kSteps == 1 && dim >= k_dim) break;  // the odd half of a last pair
      float x[kRows];
      LoadRow(q + dim * kRows, x);
      for (int row = 0; row < kRows; ++row) {
        for (int j = 0; j < kKeysPerThread; ++j) {
          scores[row][j] = __fmaf_rn(x[row], elements[j][i], scores[row][j]);
        }
      }
    }
  }
}

// numerators[row][key] = q . k for all keys that a row of the tile sees, [begin, end).
template <typename T, int kRows>
__device__ void Scores(const AttentionCall& call, const Space& space, const float* q, int begin,
                       int end) {
  constexpr int kDims = static_cast<int>(4 / sizeof(T));
  const char* keys[kKeysPerThread];
  bool any = false;
  for (int j = 0; j < kKeysPerThread; ++j) {
    const int key = static_cast<int>(threadIdx.x) + j * kAttentionThreads;
    const bool seen = key >= begin && key < end;
    const int near = seen ? key : end - 1;  // a key that can be read
    keys[j] = space.blocks[near / kKvBlockTokens] + near % kKvBlockTokens * 4;
    any = any || seen;
  }
  if (any) {
    float scores[kRows][kKeysPerThread] = {};
    int d = 0;
    for (; d + kStepsAhead * kDims <= call.k_dim; d += kStepsAhead * kDims) {
      AddScores<T, kRows, kStepsAhead>(q, keys, d, call.k_dim, scores);
    }
    for (; d < call.k_dim; d += kDims) {
      AddScores<T, kRows, 1>(q, keys, d, call.k_dim, scores);
    }
    for (int row = 0; row < kRows; ++row) {
      for (int j = 0; j < kKeysPerThread; ++j) {
        const int key = static_cast<int>(threadIdx.x) + j * kAttentionThreads;
        space.numerators[row * kScoreStride + key] = scores[row][j];
      }
    }
  }
  __syncthreads();
}

// values[i] = dimensions d and d + 1 of key i of kKeysAhead from `token` of a KV block.
template <bool kValuesInKeys>
__device__ void LoadValues(const AttentionCall& call, const char* block, int token, int d,
                           const uint16_t*, float (&values)[kKeysAhead][2]) {
  const char* const at = block + (kValuesInKeys ? 0 : call.layout.key_bytes) +
                         int64_t{d / 2} * kKeyStepBytes + token * 4;
  for (int i = 0; i < kKeysAhead; i += 4) {
    const uint4 four = LoadVector<uint4>(at + i * 4);
    Unpack(four.x, values[i]);
    Unpack(four.y, values[i + 1]);
    Unpack(four.z, values[i + 2]);
    Unpack(four.w, values[i + 3]);
  }
}

template <bool kValuesInKeys>
__device__ void LoadValues(const AttentionCall& call, const char* block, int token, int d,
                           const float*, float (&values)[kKeysAhead][2]) {
  if constexpr (kValuesInKeys) {
    for (int odd = 0; odd < 2; ++odd) {
      const int dim = d + odd < call.k_dim ? d + odd : d;  // of an odd last one, itself again
      const float* const at =
          reinterpret_cast<const float*>(block + int64_t{dim} * kKeyStepBytes) + token;
      float lane[kKeysAhead];
      LoadRow(at, lane);
      for (int i = 0; i < kKeysAhead; ++i) values[i][odd] = lane[i];
    }
  } else {
    const float* const at = reinterpret_cast<const float*>(block + call.layout.key_bytes) +
                            token * call.layout.value_stride + d;
    for (int i = 0; i < kKeysAhead; ++i) {
      const float2 two = LoadVector<float2>(at + i * call.layout.value_stride);
      values[i][0] = two.x;
      values[i][1] = two.y;
    }
  }
}

// parts[row] += numerators * values of dimensions d and d + 1, key by key in order.
template <typename T, bool kValuesInKeys, int kRows>
__device__ void AddValues(const AttentionCall& call, const Space& space, const Row* rows,
                          const float* numerators, int d, float (&parts)[kRows][2]) {
  int begin = kAttentionPartition;  // of the keys that any row sees
  int end = 0;
  int all_begin = 0;  // of the keys that all rows see
  int all_end = kAttentionPartition;
  for (int row = 0; row < kRows; ++row) {
    begin = rows[row].end > 0 && rows[row].begin < begin ? rows[row].begin : begin;
    end = rows[row].end > end ? rows[row].end : end;
    all_begin = rows[row].begin > all_begin ? rows[row].begin : all_begin;
    all_end = rows[row].end < all_end ? rows[row].end : all_end;
  }
  for (int key = begin / kKeysAhead * kKeysAhead; key < end; key += kKeysAhead) {
    float values[kKeysAhead][2];
    LoadValues<kValuesInKeys>(call, space.blocks[key / kKvBlockTokens], key % kKvBlockTokens, d,
                              static_cast<const T*>(nullptr), values);
    const bool all = key >= all_begin && key + kKeysAhead <= all_end;
    for (int row = 0; row < kRows; ++row) {
      float x[kKeysAhead];
      LoadRow(numerators + row * kScoreStride + key, x);
      for (int i = 0; i < kKeysAhead; ++i) {
        if (!all && (key + i < rows[row].begin || key + i >= rows[row].end)) continue;
        parts[row][0] = __fmaf_rn(x[i], values[i][0], parts[row][0]);
        parts[row][1] = __fmaf_rn(x[i], values[i][1], parts[row][1]);
      }
    }
  }
}

}  // namespace ballast::cuda
