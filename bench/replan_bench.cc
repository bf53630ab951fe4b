// What replanning costs and brings: a large model's layers as a curve over the cap on moves,
// against a fresh EPLB placement (and its published Python in the same run, when EPLB_PY names a
// checkout of it and python3 has torch); then real loads when ../shared (or BALLAST_SHARED) is
// there.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "engine/moe/imbalance.h"
#include "engine/moe/replan_layer.h"
#include "tools/replan_loads.h"

namespace ballast {
namespace {

constexpr int kLayers = 58;
constexpr int kExperts = 256;
constexpr int kRanks = 32;
constexpr int kSlotsPerRank = 9;

// The loads of all layers: placed for by EPLB when they were others, since drifted by some 30% per
// expert.
struct Model {
  std::vector<std::vector<int64_t>> load;  // [layers] of [experts]
  std::vector<LayerPlacement> current;
  std::vector<LayerPlacement> fresh;
};

Model DriftedModel(double skew) {
  Model model;
  std::mt19937 engine(7);
  std::normal_distribution<double> normal(0, 1);
  for (int layer = 0; layer < kLayers; ++layer) {
    std::vector<double> before;
    std::vector<double> now;
    std::vector<int64_t> load;
    for (int expert = 0; expert < kExperts; ++expert) {
      before.push_back(std::exp(skew * normal(engine)));
      now.push_back(before.back() * std::exp(0.3 * normal(engine)));
      load.push_back(std::llround(1e5 * now.back()));
    }
    model.current.push_back(EplbPlacement(before, kRanks, kSlotsPerRank));
    model.fresh.push_back(EplbPlacement(now, kRanks, kSlotsPerRank));
    model.load.push_back(std::move(load));
  }
  return model;
}

// Mean over layers of max / mean, exactly split: each layer weighs alike.
double Balance(const std::vector<LayerPlacement>& placements,
               const std::vector<StepLoad>& one_layer_steps) {
  double sum = 0;
  for (size_t layer = 0; layer < placements.size(); ++layer) {
    sum += PredictedImbalance(std::span(placements).subspan(layer, 1),
                              std::span(one_layer_steps).subspan(layer, 1), {});
  }
  return sum / static_cast<double>(placements.size());
}

std::vector<StepLoad> MeanSteps(const Model& model) {
  std::vector<StepLoad> steps;
  for (const std::vector<int64_t>& load : model.load) {
    steps.push_back({kExperts, std::vector<int32_t>(load.begin(), load.end()), 1});
  }
  return steps;
}

// A step of so many rows drawn from each layer's load: what a placement meets when it serves.
std::vector<StepLoad> DrawnSteps(const Model& model, int rows) {
  std::mt19937 engine(11);
  std::vector<StepLoad> steps;
  for (const std::vector<int64_t>& load : model.load) {
    std::discrete_distribution<int> draw(load.begin(), load.end());
    StepLoad step{kExperts, std::vector<int32_t>(kExperts, 0), 1};
    for (int i = 0; i < rows; ++i) {
      ++step.rows[static_cast<size_t>(draw(engine))];
    }
    steps.push_back(std::move(step));
  }
  return steps;
}

double MillisecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

// Milliseconds of the published code for all layers; below 0 when it can not be run.
double EplbPythonMs(const Model& model) {
  const char* checkout = std::getenv("EPLB_PY");
  if (checkout == nullptr) {
    return -1;
  }
  const std::string loads = "replan_bench_loads.txt";
  std::ofstream file(loads);
  for (const std::vector<int64_t>& load : model.load) {
    for (const int64_t units : load) {
      file << units << ' ';
    }
    file << '\n';
  }
  file.close();
  const std::string script =
      "import sys, time, torch; sys.path.insert(0, sys.argv[1]); import eplb; "
      "w = torch.tensor([[int(x) for x in line.split()] for line in open(sys.argv[2])]); "
      "t = lambda: (time.perf_counter(), eplb.rebalance_experts(w, 288, 1, 1, 32), "
      "time.perf_counter()); print(min(1e3 * (b - a) for a, _, b in (t() for _ in range(5))))";
  const std::string command =
      "python3 -c \"" + script + "\" '" + checkout + "' " + loads + " 2>/dev/null";
  double ms = -1;
  if (std::FILE* out = popen(command.c_str(), "r"); out != nullptr) {
    char line[64];
    if (std::fgets(line, sizeof line, out) != nullptr) {
      ms = std::strtod(line, nullptr);
    }
    pclose(out);
  }
  std::remove(loads.c_str());
  return ms > 0 ? ms : -1;
}

void PrintRow(const char* name, double moves, double mean, double drawn, double ms) {
  std::printf("  %-22s %7.2f %9.4f %9.4f %9.1f\n", name, moves, mean, drawn, ms);
}

// The fastest of a few runs, since the machine is shared.
void RunCurve(const Model& model, double variation, const std::vector<StepLoad>& mean_steps,
              const std::vector<StepLoad>& drawn_steps) {
  ReplanScratch scratch;
  for (const int cap : {1, 2, 3, 4, 6, 8, 12, 16, 24, 32}) {
    LayerReplanOptions options;
    options.max_moves = cap;
    options.least_gain = 0;
    options.variation = variation;
    std::vector<LayerPlacement> planned;
    double best = 1e9;
    for (int repeat = 0; repeat < 5; ++repeat) {
      planned.clear();
      const auto start = std::chrono::steady_clock::now();
      for (size_t layer = 0; layer < kLayers; ++layer) {
        planned.push_back(
            ReplanLayer(model.current[layer], model.load[layer], options, scratch).placement);
      }
      best = std::min(best, MillisecondsSince(start));
    }
    const std::string name = "at most " + std::to_string(cap) + " moves";
    PrintRow(name.c_str(), static_cast<double>(CountSlotMoves(model.current, planned)) / kLayers,
             Balance(planned, mean_steps), Balance(planned, drawn_steps), best);
  }
}

void RunModel(double skew) {
  const Model model = DriftedModel(skew);
  const std::vector<StepLoad> mean_steps = MeanSteps(model);
  const std::vector<StepLoad> drawn_steps = DrawnSteps(model, 16384);
  std::printf(
      "\n%d layers x %d experts -> %d slots, %d ranks, log-normal loads (%.1f), drift 0.3\n",
      kLayers, kExperts, kRanks * kSlotsPerRank, kRanks, skew);
  std::printf("  %-22s %7s %9s %9s %9s\n", "", "moves", "balance", "in a step", "ms, all");
  std::printf("  %-22s %7s %9s %9s %9s\n", "", "/layer", "of mean", "of 16384", "layers");
  PrintRow("as it is", 0, Balance(model.current, mean_steps), Balance(model.current, drawn_steps),
           0);
  const auto start = std::chrono::steady_clock::now();
  for (const std::vector<int64_t>& load : model.load) {
    EplbPlacement(std::vector<double>(load.begin(), load.end()), kRanks, kSlotsPerRank);
  }
  const double eplb_ms = MillisecondsSince(start);
  PrintRow("fresh EPLB, in C++",
           static_cast<double>(CountSlotMoves(model.current, model.fresh)) / kLayers,
           Balance(model.fresh, mean_steps), Balance(model.fresh, drawn_steps), eplb_ms);
  if (const double ms = EplbPythonMs(model); ms > 0) {
    std::printf("  %-22s %7s %9s %9s %9.1f\n", "EPLB, its Python", "", "", "", ms);
  } else {
    std::printf("  EPLB's Python left out: EPLB_PY names no checkout, or python3 lacks torch\n");
  }
  std::printf(" planned for the mean step\n");
  RunCurve(model, 0, mean_steps, drawn_steps);
  std::printf(" planned for steps that vary by 0.2\n");
  RunCurve(model, 0.2, mean_steps, drawn_steps);
}

void PrintOutcome(const char* kind, const std::string& name, const ReplanOutcome& of) {
  std::printf("  %-12s %-18s %7.1f %7.1f %8.4f %9.4f %8.4f %8.4f\n", kind, name.c_str(), of.moves,
              of.eplb_moves, of.before, of.replanned, of.eplb, of.even);
}

void RunRealLoads(const std::string& folder) {
  for (const int slots_per_rank : {9, 10}) {
    const std::vector<ReplanCase> cases = ReplanCases(folder, 8, slots_per_rank);
    if (cases.empty()) {
      std::printf("\nno token files in %s: real loads left out\n", folder.c_str());
      return;
    }
    std::printf("\nDeepSeek-V2-Lite, 64 experts -> %d slots, 8 ranks, 1,020 rows a step\n",
                8 * slots_per_rank);
    std::printf("  %-12s %-18s %7s %7s %8s %9s %8s %8s\n", "", "", "moves", "EPLB's", "before",
                "replanned", "EPLB", "even");
    constexpr const char* kKinds[] = {"in domain", "drift", "first"};
    for (const ReplanCase& of : cases) {
      PrintOutcome(kKinds[of.kind], of.name, of.outcome);
    }
    for (const auto kind : {ReplanCase::kInDomain, ReplanCase::kDrift, ReplanCase::kFirst}) {
      PrintOutcome(kKinds[kind], "mean", MeanOutcome(cases, kind));
    }
  }
}

int Main() {
  RunModel(0.6);
  RunModel(1.0);
  const char* shared = std::getenv("BALLAST_SHARED");
  RunRealLoads(std::string(shared != nullptr ? shared : BALLAST_SOURCE_DIR "/../shared") +
               "/data/loads/esft_tokens/");
  return 0;
}

}  // namespace
}  // namespace ballast

int main() { return ballast::Main(); }
