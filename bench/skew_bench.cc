// What imbalance costs, and what balancing gives back: prefill on 2 ranks of one thread each.
//
//   skew_bench BALANCED SKEWED MINI
//
// The first two are of one shape (make_checkpoint --hot-share), the second with router biases that
// send 95% of rows to rank 0's experts. MINI is the bundled model, whose experts specialise by
// domain: its prompts are sums alone. Both ranks have half of a step's tokens. MoE time of a step
// is what a rank spends on its experts and on waiting for the other, summed over layers; settings
// take turns, the median step counts.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace ballast::bench {
namespace {

constexpr int kRanks = 2;
constexpr int kStepTokens = 512;
constexpr int kPromptTokens = kStepTokens / kRanks;
constexpr int kPrompts = 32;
constexpr int kRounds = 4;  // of which the first is warm-up

struct Times {
  std::vector<double> moe;
  std::vector<double> step;
  int64_t spilled = 0;
  int64_t rows = 0;
};

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

void Record(const StepReport& report, Times& times) {
  if (report.prefill_rows != kStepTokens) return;
  double moe = 0;
  for (const RankResult& rank : report.result->ranks) {
    moe += rank.wait_seconds;
    for (const ExpertTiming& layer : rank.timings) moe += layer.seconds;
    for (const int64_t rows : rank.run_rows) times.rows += rows;
  }
  for (const LayerBalance& layer : report.result->ranks[0].balance) {
    times.spilled += layer.spilled_rows;
  }
  times.moe.push_back(moe / kRanks);
  times.step.push_back(report.seconds);
}

class Runner {
 public:
  Runner(const std::string& model, const std::string& balance) {
    EngineOptions options;
    options.model = model;
    options.balance = balance;
    options.ranks = kRanks;
    options.threads = 1;
    options.replan_interval = 0.5;
    options.step_tokens = kStepTokens;
    options.kv_memory_bytes = 64 << 20;
    options.max_context = 2 * kPromptTokens;
    options.max_running = kPrompts;
    EngineEvents events;
    events.on_step = [this](const StepReport& report) {
      if (recording_) Record(report, times_);
    };
    auto engine = Engine::Create(options, std::move(events), [](size_t, size_t) {});
    if (!engine.ok()) {
      std::fprintf(stderr, "%s\n", std::string(engine.status().message()).c_str());
      std::exit(1);
    }
    engine_ = *std::move(engine);
  }

  void Run(bool record) {
    recording_ = record;
    std::vector<std::promise<void>> over(kPrompts);
    for (int i = 0; i < kPrompts; ++i) Start(i, over[static_cast<size_t>(i)]);
    for (std::promise<void>& one : over) one.get_future().wait();
  }
  const Times& times() const { return times_; }

 private:
  void Start(int number, std::promise<void>& over) {
    Request request;
    request.id = std::to_string(number);
    request.bypass_prefix_cache = true;
    request.prompt = Prompt(number);
    request.stopping.max_tokens = 1;
    request.stopping.ignore_eos = true;
    const absl::Status status = engine_->Submit(
        std::move(request), [&over](const absl::Status& failure, const OutputDelta& delta) {
          if (!failure.ok() || delta.usage) over.set_value();
        });
    if (!status.ok()) std::exit(1);
  }

  // Sums where there is a tokenizer, else any tokens.
  std::vector<int32_t> Prompt(int number) const {
    std::vector<int32_t> tokens;
    if (engine_->tokenizer() != nullptr) {
      std::string text;
      for (int i = 0; i < kPromptTokens; ++i) {
        const int a = (number * 31 + i * 17) % 90 + 5;
        const int b = (number * 13 + i * 29) % 80 + 7;
        text += "Q: What is " + std::to_string(a) + " + " + std::to_string(b) +
                "?\nA: " + std::to_string(a + b) + "\n";
      }
      tokens = engine_->tokenizer()->Encode(text, true).value();
    }
    const int vocab = engine_->info().config.vocab_size;
    for (int i = static_cast<int>(tokens.size()); i < kPromptTokens; ++i) {
      tokens.push_back(3 + (number * 7919 + i * 104729) % (vocab - 3));
    }
    tokens.resize(kPromptTokens);
    return tokens;
  }

  std::atomic<bool> recording_{false};
  Times times_;
  std::unique_ptr<Engine> engine_;
};

struct Setting {
  const char* name;
  std::string model;
  const char* balance;
};

void Compare(const std::vector<Setting>& settings) {
  std::vector<std::unique_ptr<Runner>> runners;
  for (const Setting& setting : settings) {
    runners.push_back(std::make_unique<Runner>(setting.model, setting.balance));
  }
  for (int round = 0; round < kRounds; ++round) {
    for (const auto& runner : runners) runner->Run(round > 0);
  }
  const double base = Median(runners[0]->times().moe);
  std::printf("%-24s %10s %8s %10s %9s\n", "", "MoE ms", "ratio", "step ms", "spilled");
  for (size_t i = 0; i < settings.size(); ++i) {
    const Times& times = runners[i]->times();
    std::printf("%-24s %10.2f %8.3f %10.2f %8.1f%%\n", settings[i].name, 1e3 * Median(times.moe),
                Median(times.moe) / base, 1e3 * Median(times.step),
                100.0 * static_cast<double>(times.spilled) /
                    static_cast<double>(std::max<int64_t>(times.rows, 1)));
  }
}

}  // namespace
}  // namespace ballast::bench

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: skew_bench BALANCED SKEWED MINI\n");
    return 2;
  }
  ballast::bench::Compare({{"balanced, plain", argv[1], "off"},
                           {"balanced, balancing", argv[1], "full"},
                           {"95% on rank 0, plain", argv[2], "off"},
                           {"95% on rank 0, assign", argv[2], "assign"},
                           {"95% on rank 0, spill", argv[2], "spill"},
                           {"95% on rank 0, full", argv[2], "full"}});
  std::printf("\n");
  ballast::bench::Compare({{"bundled, sums, plain", argv[3], "off"},
                           {"bundled, sums, assign", argv[3], "assign"},
                           {"bundled, sums, spill", argv[3], "spill"},
                           {"bundled, sums, full", argv[3], "full"}});
  return 0;
}
