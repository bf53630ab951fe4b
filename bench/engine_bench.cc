// Prefill and decode of whole models through the engine, in exact and bf16 compute, with the share
// of this machine's limits that each reaches.
//
//   engine_bench [--threads N] [--kernels SET] [--compute exact|bf16] [--same-prompts] MODEL...
//
// pp512: one prompt of 512 tokens in one step. tg: greedy decoding of 1, 8 and 32 sequences at
// once, prompts of 32 tokens, the median step of those in which all of them decode. Work is counted
// from what ran: FLOPs of a prefill from active parameters, bytes of a decode step from the experts
// that were live in it. Limits are measured in the same process, before and after.
#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "bench/machine_limits.h"
#include "engine/engine.h"

namespace ballast::bench {
namespace {

constexpr int kPrefillTokens = 512;
constexpr int kDecodePrompt = 32;
constexpr int kDecodeTokens = 64;
constexpr int kRepeats = 3;

struct Step {
  double seconds = 0;
  int prefill_rows = 0;
  int decode_rows = 0;
  int64_t live_experts = 0;  // over all MoE layers
};

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Waits for a number of requests.
class Latch {
 public:
  explicit Latch(int count) : count_(count) {}
  void Done() {
    const std::lock_guard lock(mutex_);
    --count_;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return count_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_;
};

struct Bench {
  EngineOptions options;
  bool same_prompts = false;
  std::vector<Step> steps;  // written by the engine's loop while requests run
  std::unique_ptr<Engine> engine;
  int next_id = 0;

  bool Load() {
    EngineEvents events;
    events.on_step = [this](const StepReport& report) {
      Step step{report.seconds, report.prefill_rows, report.decode_rows, 0};
      for (const int64_t rows : report.result->ranks[0].expert_rows) step.live_experts += rows > 0;
      steps.push_back(step);
    };
    auto created = Engine::Create(options, events, [](size_t, size_t) {});
    if (!created.ok()) {
      std::fprintf(stderr, "%s\n", std::string(created.status().message()).c_str());
      return false;
    }
    engine = *std::move(created);
    return true;
  }

  // Runs `count` greedy requests to their ends and leaves their steps in `steps`.
  void Run(int count, int prompt_tokens, int output_tokens) {
    steps.clear();
    Latch latch(count);
    for (int i = 0; i < count; ++i) {
      Request request;
      request.id = std::to_string(next_id++);
      const int first = same_prompts ? 0 : next_id * 7919;
      for (int t = 0; t < prompt_tokens; ++t) {
        request.prompt.push_back((first + t * 104729) % engine->info().config.vocab_size);
      }
      request.sampling.temperature = 0;
      request.stopping.max_tokens = output_tokens;
      request.stopping.ignore_eos = true;
      request.bypass_prefix_cache = true;
      const absl::Status status = engine->Submit(request, [&](absl::Status, OutputDelta delta) {
        if (delta.usage) latch.Done();
      });
      if (!status.ok()) {
        std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
        latch.Done();
      }
    }
    latch.Wait();
  }
};

// Parameters that every token meets, and those of one expert, from the model's figures.
struct Parameters {
  double dense = 0;
  double expert = 0;
};

Parameters Split(const ModelInfo& info) {
  const ModelConfig& c = info.config;
  Parameters p;
  p.expert = 3.0 * c.hidden * c.expert_intermediate;
  p.dense = static_cast<double>(info.parameters) -
            p.expert * c.experts * static_cast<double>(MoeLayers(c).size());
  if (!c.tied_embeddings) p.dense -= 1.0 * c.vocab_size * c.hidden;  // looked up, not multiplied
  return p;
}

void Prefill(Bench& bench, const MachineLimits& limits) {
  std::vector<double> seconds;
  for (int i = 0; i < kRepeats; ++i) {
    bench.Run(1, kPrefillTokens, 1);
    double total = 0;
    for (const Step& step : bench.steps) total += step.seconds;
    seconds.push_back(total);
  }
  const ModelInfo& info = bench.engine->info();
  const Parameters p = Split(info);
  const double head = 1.0 * info.config.vocab_size * info.config.hidden;  // for one row only
  const double per_token =
      p.dense - head +
      p.expert * info.config.experts_per_token * static_cast<double>(MoeLayers(info.config).size());
  const double time = Median(seconds);
  const double gflops = 2e-9 * per_token * kPrefillTokens / time;
  const bool bf16 = bench.options.compute == "bf16";
  const double peak = bf16 ? limits.bf16_gflops : limits.f32_gflops;
  std::printf("  pp%d   %8.1f tok/s   %6.1f GFLOP/s, %3.0f%% of %s peak\n", kPrefillTokens,
              kPrefillTokens / time, gflops, 100 * gflops / peak, bf16 ? "bf16" : "f32");
}

void Decode(Bench& bench, const MachineLimits& limits, int sequences) {
  bench.Run(sequences, kDecodePrompt, kDecodeTokens);
  std::vector<double> seconds;
  std::vector<double> live;
  for (const Step& step : bench.steps) {
    if (step.prefill_rows > 0 || step.decode_rows != sequences) continue;
    seconds.push_back(step.seconds);
    live.push_back(static_cast<double>(step.live_experts));
  }
  const Parameters p = Split(bench.engine->info());
  const double gigabytes = 2e-9 * (p.dense + p.expert * Median(live));
  const double time = Median(seconds);
  std::printf("  tg b%-3d %8.1f tok/s   %6.1f GB/s of weights, %3.0f%% of read bandwidth\n",
              sequences, sequences / time, gigabytes / time,
              100 * gigabytes / time / limits.read_gbps);
}

bool RunModel(const EngineOptions& options, bool same_prompts, const MachineLimits& limits) {
  Bench bench;
  bench.options = options;
  bench.same_prompts = same_prompts;
  if (!bench.Load()) return false;
  const ModelInfo& info = bench.engine->info();
  std::printf("%s, %s compute, %s kernels: %.2f B parameters, %.2f B active\n", info.name.c_str(),
              info.compute.c_str(), info.kernels.c_str(), info.parameters * 1e-9,
              info.active_parameters * 1e-9);
  Prefill(bench, limits);
  for (const int sequences : {1, 8, 32}) Decode(bench, limits, sequences);
  std::fflush(stdout);
  return true;
}

}  // namespace

int Main(int argc, char** argv) {
  CLI::App app("Prefill and decode of whole models, with shares of this machine's limits.");
  std::vector<std::string> models;
  std::vector<std::string> computes = {"exact", "bf16"};
  EngineOptions options;
  app.add_option("MODEL", models, "checkpoint folders")->required();
  app.add_option("--threads", options.threads, "0: one per core");
  app.add_option("--kernels", options.kernels, "auto, reference, avx2, avx512");
  app.add_option("--compute", computes, "exact, bf16");
  bool same_prompts = false;
  app.add_flag("--same-prompts", same_prompts,
               "all sequences alike, so that they want the same experts, as those of llama.cpp's "
               "llama-batched-bench are");
  CLI11_PARSE(app, argc, argv);

  if (options.threads == 0) options.threads = static_cast<int>(std::thread::hardware_concurrency());
  const auto measure = [&](const char* when) {
    ThreadPool pool(options.threads);
    const MachineLimits limits = MeasureMachine(pool);
    std::printf("machine %s, %d threads: f32 %.0f GFLOP/s, bf16 %.0f GFLOP/s, read %.1f GB/s\n",
                when, options.threads, limits.f32_gflops, limits.bf16_gflops, limits.read_gbps);
    return limits;
  };
  const MachineLimits limits = measure("before");
  for (const std::string& model : models) {
    for (const std::string& compute : computes) {
      options.model = model;
      options.compute = compute;
      options.max_context = 1024;
      if (!RunModel(options, same_prompts, limits)) return 1;
    }
  }
  measure("after");
  return 0;
}

}  // namespace ballast::bench

int main(int argc, char** argv) { return ballast::bench::Main(argc, argv); }
