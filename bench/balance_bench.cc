// What deciding costs: assignment of a layer's rows on every step, on one thread, against its
// targets, and how near it comes to its bounds. Real loads when ../shared (or BALLAST_SHARED) is
// there.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/moe/split.h"
#include "tools/balance_cases.h"
#include "tools/expert_loads.h"

namespace ballast {
namespace {

struct CostCase {
  const char* name;
  int32_t tile_rows;
  int32_t tile_cost;
  int32_t floor_cost;
  bool unequal_speeds;
  BalanceMode mode;
};

// Costs of a tile and floors in nanoseconds; a floor of 16 rows is about that of a machine whose
// break-even between reading and multiplying is at 16 rows.
constexpr CostCase kCosts[] = {
    {"rows", 1, 1, 0, false, BalanceMode::kAssign},
    {"rows, speeds", 1, 1, 0, true, BalanceMode::kAssign},
    {"tiles of 16", 16, 1000, 0, false, BalanceMode::kAssign},
    {"rows, floor 16", 1, 100, 1600, false, BalanceMode::kAssign},
    {"tiles, floor 3", 16, 1000, 3000, false, BalanceMode::kAssign},
    {"tiles, floor 3, speeds", 16, 1000, 3000, true, BalanceMode::kAssign},
    {"tiles, floor 3, spill", 16, 1000, 3000, false, BalanceMode::kSpill},
};

CostParameters CostsOf(const CostCase& of, int ranks) {
  CostParameters costs;
  costs.mode = of.mode;
  costs.tile_rows = of.tile_rows;
  costs.tile_cost = of.tile_cost;
  costs.floor_cost = of.floor_cost;
  costs.import_cost = 2 * of.floor_cost;
  costs.max_imports = of.mode == BalanceMode::kSpill ? 2 : 0;
  if (of.unequal_speeds) {
    costs.speed.assign(static_cast<size_t>(ranks), kNominalSpeed);
    costs.speed[static_cast<size_t>(ranks / 3)] = kNominalSpeed / 2;
    costs.speed[static_cast<size_t>(ranks / 2)] = kNominalSpeed * 9 / 10;
  }
  return costs;
}

double Median(std::vector<double> numbers) {
  std::nth_element(numbers.begin(), numbers.begin() + static_cast<ptrdiff_t>(numbers.size() / 2),
                   numbers.end());
  return numbers[numbers.size() / 2];
}

double Mean(const std::vector<double>& numbers) {
  double sum = 0;
  for (const double number : numbers) {
    sum += number;
  }
  return sum / static_cast<double>(numbers.size());
}

// Steps of one placement.
struct Trace {
  Replicas replicas;
  std::vector<std::vector<int32_t>> steps;  // rows [ranks (source), experts] of each
};

void PrintHeading(const char* what) {
  std::printf("\n%s\n%-24s %9s %9s %9s %9s %8s %8s %8s %8s\n", what, "costs", "median us", "p99 us",
              "split us", "of target", "mean", "worst", "plain", "spilled");
  std::printf("%-24s %9s %9s %9s %9s %8s %8s %8s %8s\n", "", "", "", "", "", "/bound", "/bound",
              "/bound", "/bound");
}

// Each step is decided `repeats` times and its fastest run counts, since the machine is shared.
void Run(const CostCase& of, const std::vector<Trace>& traces, int repeats, double target_us) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> times;
  std::vector<double> split_times;
  std::vector<double> ratios;
  std::vector<double> plain;
  std::vector<double> spilled;
  AssignScratch scratch;
  Assignment assignment;
  SplitScratch split_scratch;
  RowSplit split;
  for (const Trace& trace : traces) {
    const CostParameters costs = CostsOf(of, trace.replicas.ranks);
    for (const std::vector<int32_t>& rows : trace.steps) {
      double best = 1e9;
      double best_split = 1e9;
      for (int i = 0; i < repeats; ++i) {
        const Clock::time_point start = Clock::now();
        Assign(rows, trace.replicas, costs, scratch, assignment);
        const Clock::time_point assigned = Clock::now();
        Split(rows, trace.replicas, assignment, split_scratch, split);
        const Clock::time_point end = Clock::now();
        best = std::min(best, std::chrono::duration<double, std::micro>(assigned - start).count());
        best_split =
            std::min(best_split, std::chrono::duration<double, std::micro>(end - assigned).count());
      }
      times.push_back(best);
      split_times.push_back(best_split);
      const double bound = static_cast<double>(assignment.bound);
      ratios.push_back(static_cast<double>(assignment.assign_value) / bound);
      plain.push_back(static_cast<double>(assignment.plain_value) / bound);
      spilled.push_back(static_cast<double>(assignment.value) / bound);
    }
  }
  const double median = Median(times);
  std::sort(times.begin(), times.end());
  std::printf("%-24s %9.1f %9.1f %9.1f", of.name, median, times[times.size() * 99 / 100],
              Median(split_times));
  if (target_us > 0) {
    std::printf(" %8.0f%%", 100 * median / target_us);
  } else {
    std::printf(" %9s", "-");
  }
  std::printf(" %8.4f %8.4f %8.3f", Mean(ratios), *std::max_element(ratios.begin(), ratios.end()),
              Mean(plain));
  if (of.mode == BalanceMode::kSpill) {
    std::printf(" %8.3f\n", Mean(spilled));
  } else {
    std::printf(" %8s\n", "-");
  }
}

// Loads that fall off like 1 / rank^0.6, drawn anew for each step around the expected ones.
Trace RandomTrace(int ranks, int experts, int slots, int rows_per_rank, Random& random) {
  std::vector<double> load;
  double sum = 0;
  for (int expert = 0; expert < experts; ++expert) {
    load.push_back(1 / (1.0 + random(0, experts / 4)));
    sum += load.back();
  }
  Trace trace;
  BuildReplicas(PackedPlacement(load, ranks, slots / ranks), experts, {}, trace.replicas);
  for (int step = 0; step < 40; ++step) {
    std::vector<int32_t> rows(static_cast<size_t>(ranks) * experts);
    for (int source = 0; source < ranks; ++source) {
      for (int expert = 0; expert < experts; ++expert) {
        const double expected = load[static_cast<size_t>(expert)] / sum * rows_per_rank;
        rows[static_cast<size_t>(source) * experts + expert] =
            static_cast<int32_t>(std::lround(expected * random(0, 2000) / 1000));
      }
    }
    trace.steps.push_back(std::move(rows));
  }
  return trace;
}

// Placed by the first half of one task's tokens, tested on the second half of another's.
std::vector<Trace> RealTraces(const std::string& folder, const char* plan, const char* test,
                              int slots, size_t tokens) {
  const int ranks = 8;
  const int experts = 64;
  const RoutedTokens planned = ReadRoutedTokens(folder + plan + ".csv.gz");
  const RoutedTokens tested = ReadRoutedTokens(folder + test + ".csv.gz");
  std::vector<Trace> traces;
  for (size_t layer = 0; layer < std::min(planned.layers.size(), tested.layers.size()); ++layer) {
    std::vector<double> load(experts, 1e-3);
    const size_t half = planned.layers[layer].size() / 2;
    for (size_t i = 0; i < half; ++i) {
      load[static_cast<size_t>(planned.layers[layer][i])] += 1;
    }
    Trace trace;
    BuildReplicas(PackedPlacement(load, ranks, slots / ranks), experts, {}, trace.replicas);
    const size_t stride = std::max<size_t>(tokens, tested.tokens() / 2 / 12);
    for (size_t first = tested.tokens() / 2; first + tokens <= tested.tokens(); first += stride) {
      trace.steps.push_back(RowsOfStep(tested, layer, first, tokens, ranks, experts));
    }
    traces.push_back(std::move(trace));
  }
  return traces;
}

void RunAll(const char* heading, const std::vector<Trace>& traces, double target_us) {
  PrintHeading(heading);
  for (const CostCase& of : kCosts) {
    Run(of, traces, 5, target_us);
  }
}

int Main() {
  std::printf(
      "Assignment of one layer's rows, one thread. mean, worst: value / bound over steps\n");
  for (const auto& [slots, target] : {std::pair(288, 50.0), std::pair(512, 400.0)}) {
    Random random(1);
    std::vector<Trace> traces;
    for (int i = 0; i < 5; ++i) {
      traces.push_back(RandomTrace(32, 256, slots, 2048, random));
    }
    const std::string heading = "random loads, 256 experts x 32 ranks, " + std::to_string(slots) +
                                " slots, target " + std::to_string(static_cast<int>(target)) +
                                " us";
    RunAll(heading.c_str(), traces, target);
  }
  const char* shared = std::getenv("BALLAST_SHARED");
  const std::string folder =
      std::string(shared != nullptr ? shared : BALLAST_SOURCE_DIR "/../shared") +
      "/data/loads/esft_tokens/";
  for (const auto& [plan, test] : {std::pair("law", "law"), std::pair("law", "summary")}) {
    for (const int slots : {72, 80}) {
      for (const size_t tokens : {size_t{170}, size_t{21}}) {
        const std::vector<Trace> traces = RealTraces(folder, plan, test, slots, tokens);
        if (traces.empty()) {
          std::printf("\nno token files in %s: real loads left out\n", folder.c_str());
          return 0;
        }
        const std::string heading = std::string("DeepSeek-V2-Lite on ") + test + ", placed by " +
                                    plan + ", 64 experts x 8 ranks, " + std::to_string(slots) +
                                    " slots, " + std::to_string(tokens * 6) + " rows a step";
        RunAll(heading.c_str(), traces, 0);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace ballast

int main() { return ballast::Main(); }
