// How near the kernels come to the machine's limits.
//
//   kernels_bench [threads] [kernel set]
//
// Weights are 128 MB, more than caches hold, as in a step of a real model: 64 experts, each with so
// many rows. Every line prints what was reached, and its share of what memory and arithmetic
// allow together (roofline): max(flops / peak, bytes / bandwidth) over the time taken.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <vector>

#include "bench/machine_limits.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/threads.h"

namespace ballast::bench {
namespace {

constexpr int64_t kExperts = 64;
constexpr int64_t kDim = 1024;
constexpr int kRepeats = 7;

// Seconds of the fastest of a few runs, after one to warm up.
template <class Body>
double BestSeconds(int threads, const Body& body) {
  body();
  double best = 1e30;
  for (int i = 0; i < kRepeats; ++i) {
    const double begin = Now(threads);
    body();
    best = std::min(best, Now(threads) - begin);
  }
  return best;
}

struct Work {
  double flops, bytes, peak_gflops;
};

void Print(const char* what, int64_t rows, const Work& work, double seconds,
           const MachineLimits& limits) {
  const double least =
      std::max(work.flops / (work.peak_gflops * 1e9), work.bytes / (limits.read_gbps * 1e9));
  std::printf("%-24s rows %4lld  %7.1f GFLOP/s (%3.0f%%)  %6.1f GB/s (%3.0f%%)  roofline %3.0f%%\n",
              what, static_cast<long long>(rows), work.flops / seconds / 1e9,
              100 * work.flops / seconds / 1e9 / work.peak_gflops, work.bytes / seconds / 1e9,
              100 * work.bytes / seconds / 1e9 / limits.read_gbps, 100 * least / seconds);
}

class Bench {
 public:
  Bench(const Device& device, int threads, const MachineLimits& limits)
      : device_(device),
        stream_(device.create_stream(0, threads)),
        threads_(threads),
        limits_(limits) {}
  ~Bench() {
    for (const auto& [data, bytes] : memory_) device_.release(data, bytes);
    device_.destroy_stream(stream_);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  void Experts(DType x_type, DType w_type);
  void Attention(DType type, int64_t heads, int64_t kv_heads, int64_t dim, int64_t sequences,
                 int64_t rows, int64_t history);
  void Latent(int64_t heads, int64_t sequences, int64_t rows, int64_t history);

 private:
  void* Allocate(size_t bytes) {
    void* const data = device_.allocate(stream_, bytes);
    if (data == nullptr) std::exit(1);
    memory_.emplace_back(data, bytes);
    std::memset(data, 0x3C, bytes);  // small positive numbers in f32 and in bf16
    return data;
  }
  double Peak(DType x) const {
    return x == DType::kBF16 ? limits_.bf16_gflops : limits_.f32_gflops;
  }
  void Attend(const char* what, KvCache cache, int64_t heads, int64_t sequences, int64_t rows,
              int64_t history);

  const Device& device_;
  Stream stream_;
  int threads_;
  MachineLimits limits_;
  std::vector<std::pair<void*, size_t>> memory_;
};

void Bench::Experts(DType x_type, DType w_type) {
  const size_t bytes = device_.packed_bytes(w_type, kDim, kDim);
  char* const data = static_cast<char*>(Allocate(bytes * kExperts));
  std::vector<PackedMatrix> weights;
  for (size_t e = 0; e < kExperts; ++e) weights.push_back({data + e * bytes, w_type, kDim, kDim});
  char name[64];
  for (const int64_t rows : {1, 2, 3, 4, 6, 8, 12, 16, 32, 128}) {
    const int64_t total = rows * kExperts;
    void* const x_data = Allocate(static_cast<size_t>(total * kDim) * SizeOf(x_type));
    void* const out_data = Allocate(static_cast<size_t>(total * kDim) * sizeof(float));
    const MatView x{x_data, x_type, total, kDim, kDim};
    const MatView out{out_data, DType::kF32, total, kDim, kDim};
    const MatView gated{out_data, x_type, total, kDim, kDim};
    std::vector<MatmulGroup> groups;
    std::vector<GateUpGroup> pairs;
    for (int64_t e = 0; e < kExperts; ++e) {
      const PackedMatrix* w = &weights[static_cast<size_t>(e)];
      groups.push_back({.weight = w, .row_begin = e * rows, .rows = rows});
      if (e % 2 == 1) pairs.push_back({w - 1, w, e * rows, rows});
    }
    const Work work{2.0 * static_cast<double>(total) * kDim * kDim,
                    static_cast<double>(bytes) * kExperts, Peak(x_type)};
    std::snprintf(name, sizeof name, "matmul %s x %s", NameOf(x_type), NameOf(w_type));
    Print(name, rows, work,
          BestSeconds(threads_,
                      [&] { device_.matmul(stream_, x, groups.data(), kExperts, out, false); }),
          limits_);
    std::snprintf(name, sizeof name, "gate_up %s x %s", NameOf(x_type), NameOf(w_type));
    Print(name, rows, work,
          BestSeconds(threads_,
                      [&] { device_.gate_up(stream_, x, pairs.data(), kExperts / 2, gated); }),
          limits_);
  }
}

void Bench::Attend(const char* what, KvCache cache, int64_t heads, int64_t sequences, int64_t rows,
                   int64_t history) {
  const int64_t blocks = (history + kKvBlockTokens - 1) / kKvBlockTokens;
  cache.blocks = blocks * sequences;
  cache.data = Allocate(device_.kv_bytes(cache));
  const int64_t total = sequences * rows;
  const auto heads_view = [&](DType type, int64_t dim) {
    void* const data = Allocate(static_cast<size_t>(total * heads * dim) * SizeOf(type));
    return HeadsView{data, type, total, heads * dim, heads, dim, dim};
  };
  const HeadsView q = heads_view(cache.type, cache.k_dim);
  const HeadsView out = heads_view(cache.type, cache.v_dim);
  std::vector<int32_t> table(static_cast<size_t>(cache.blocks));
  std::iota(table.begin(), table.end(), 0);
  std::vector<AttentionSpan> spans;
  for (int64_t s = 0; s < sequences; ++s) {
    spans.push_back(
        {s * rows, static_cast<int32_t>(rows), static_cast<int32_t>(history - rows), s * blocks});
  }
  const double pairs = static_cast<double>(total) * static_cast<double>(2 * history - rows + 1) / 2;
  const Work work{2 * pairs * static_cast<double>(heads * (cache.k_dim + cache.v_dim)),
                  static_cast<double>(device_.kv_bytes(cache)), Peak(cache.type)};
  Print(what, rows, work,
        BestSeconds(threads_,
                    [&] {
                      device_.attention(stream_, cache, q, {spans.data(), sequences, table.data()},
                                        0.1f, 0, /*sinks=*/nullptr, out);
                    }),
        limits_);
}

void Bench::Attention(DType type, int64_t heads, int64_t kv_heads, int64_t dim, int64_t sequences,
                      int64_t rows, int64_t history) {
  char name[64];
  std::snprintf(name, sizeof name, "attention %s %lldx%lld", NameOf(type),
                static_cast<long long>(sequences), static_cast<long long>(history));
  Attend(name, {nullptr, type, 0, kv_heads, dim, dim, false}, heads, sequences, rows, history);
}

void Bench::Latent(int64_t heads, int64_t sequences, int64_t rows, int64_t history) {
  char name[64];
  std::snprintf(name, sizeof name, "latent BF16 %lldx%lld", static_cast<long long>(sequences),
                static_cast<long long>(history));
  Attend(name, {nullptr, DType::kBF16, 0, 1, 576, 512, true}, heads, sequences, rows, history);
}

int Main(int argc, char** argv) {
  const int threads = argc > 1 ? std::max(1, std::atoi(argv[1])) : 2;
  const Device* device = FindCpuDevice(argc > 2 ? argv[2] : "auto");
  if (device == nullptr) {
    std::fprintf(stderr, "unknown kernel set; this processor runs %s\n", CpuKernelSets());
    return 1;
  }
  MachineLimits limits;
  {
    ThreadPool pool(threads);
    limits = MeasureMachine(pool);
  }
  std::printf("%s, %d threads; limits: f32 %.0f GFLOP/s, bf16 %.0f GFLOP/s, read %.1f GB/s\n",
              device->kernels, threads, limits.f32_gflops, limits.bf16_gflops, limits.read_gbps);
  for (const auto& [x, w] : {std::pair{DType::kBF16, DType::kBF16}, {DType::kF32, DType::kBF16}}) {
    Bench(*device, threads, limits).Experts(x, w);
  }
  for (const DType type : {DType::kBF16, DType::kF32}) {
    Bench bench(*device, threads, limits);
    bench.Attention(type, 16, 8, 64, 1, 1, 4096);
    bench.Attention(type, 16, 8, 64, 32, 1, 1024);
    bench.Attention(type, 16, 8, 64, 1, 512, 512);
    bench.Attention(type, 16, 16, 128, 1, 512, 2048);
  }
  Bench latent(*device, threads, limits);
  latent.Latent(16, 1, 1, 4096);
  latent.Latent(16, 32, 1, 1024);
  latent.Latent(16, 1, 256, 1024);
  return 0;
}

}  // namespace
}  // namespace ballast::bench

int main(int argc, char** argv) { return ballast::bench::Main(argc, argv); }
