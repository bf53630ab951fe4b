#include "bench/machine_limits.h"

#include <immintrin.h>
#include <time.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/memory.h"

namespace ballast::bench {
namespace {

constexpr int kRepeats = 5;
constexpr int64_t kSteps = 1 << 20;
constexpr size_t kReadBytes = size_t{512} << 20;

// One step of each loop does 12 or 16 independent operations: more than latency times throughput.
// The results go through a volatile so that nothing is optimised away.
volatile float sink;

__attribute__((target("avx2,fma"))) double FmaFlopsAvx2() {
  __m256 sums[16];
  for (__m256& s : sums) s = _mm256_set1_ps(1.0f);
  const __m256 x = _mm256_set1_ps(0.999f);
  for (int64_t i = 0; i < kSteps; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < 12; ++j) sums[j] = _mm256_fmadd_ps(sums[j], x, x);
  }
  for (__m256& s : sums) sink = _mm256_cvtss_f32(s);
  return static_cast<double>(kSteps) * 12 * 8 * 2;
}

__attribute__((target("avx512f"))) double FmaFlopsAvx512() {
  __m512 sums[16];
  for (__m512& s : sums) s = _mm512_set1_ps(1.0f);
  const __m512 x = _mm512_set1_ps(0.999f);
  for (int64_t i = 0; i < kSteps; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) sums[j] = _mm512_fmadd_ps(sums[j], x, x);
  }
  for (__m512& s : sums) sink = _mm512_cvtss_f32(s);
  return static_cast<double>(kSteps) * 16 * 16 * 2;
}

__attribute__((target("avx512f,avx512bf16"))) double DotFlopsBf16() {
  __m512 sums[16];
  for (__m512& s : sums) s = _mm512_set1_ps(1.0f);
  const __m512bh x = (__m512bh)_mm512_set1_epi32(0x3F803F80);
  for (int64_t i = 0; i < kSteps; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) sums[j] = _mm512_dpbf16_ps(sums[j], x, x);
  }
  for (__m512& s : sums) sink = _mm512_cvtss_f32(s);
  return static_cast<double>(kSteps) * 16 * 32 * 2;
}

__attribute__((target("avx2"))) void Read(const char* data, size_t bytes) {
  __m256i sum[4] = {};
  for (size_t i = 0; i + 128 <= bytes; i += 128) {
    for (size_t j = 0; j < 4; ++j) {
      const void* at = data + i + 32 * j;
      sum[j] = _mm256_xor_si256(sum[j], _mm256_load_si256(static_cast<const __m256i*>(at)));
    }
  }
  for (const __m256i& s : sum) sink = static_cast<float>(_mm256_extract_epi32(s, 0));
}

// Units a second of body(), which returns how many one thread did; the best of a few tries.
template <class Body>
double Rate(ThreadPool& pool, const Body& body) {
  double best = 0;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    const double begin = Now(pool.threads());
    double units = 0;
    pool.For(pool.threads(), [&](int64_t item, int) {
      const double done = body(item);
      if (item == 0) units = done;
    });
    best = std::max(best, units * pool.threads() / (Now(pool.threads()) - begin));
  }
  return best;
}

}  // namespace

double Now(int threads) {
  timespec now;
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

MachineLimits MeasureMachine(ThreadPool& pool) {
  MachineLimits limits;
  const bool avx512 = __builtin_cpu_supports("avx512f");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!avx2) return limits;
  limits.f32_gflops =
      Rate(pool, [&](int64_t) { return avx512 ? FmaFlopsAvx512() : FmaFlopsAvx2(); }) / 1e9;
  limits.bf16_gflops = __builtin_cpu_supports("avx512bf16")
                           ? Rate(pool, [](int64_t) { return DotFlopsBf16(); }) / 1e9
                           : limits.f32_gflops;
  char* const data = static_cast<char*>(AllocateMemory(kReadBytes));
  if (data == nullptr) return limits;
  std::memset(data, 1, kReadBytes);
  const size_t share = kReadBytes / static_cast<size_t>(pool.threads()) / 4096 * 4096;
  limits.read_gbps = Rate(pool,
                          [&](int64_t item) {
                            Read(data + static_cast<size_t>(item) * share, share);
                            return static_cast<double>(share);
                          }) /
                     1e9;
  FreeMemory(data, kReadBytes);
  return limits;
}

}  // namespace ballast::bench
