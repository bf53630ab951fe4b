// Replanning on real loads: planned with the first half of a task's tokens, tested on its second.
//
// In domain, the placement in force is a fresh EPLB placement of the task's first quarter. Under
// drift it is one of another task's first half; a first replan starts from the even placement.
// Balance is max / mean of the ranks' rows with the exact split (Assign), the mean over steps.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/moe/imbalance.h"
#include "engine/moe/load_window.h"
#include "engine/moe/placement.h"
#include "engine/moe/replan.h"
#include "tools/eplb.h"
#include "tools/expert_loads.h"

namespace ballast {

// Tokens of a task, some of its layers, cut into steps.
struct ReplanTask {
  RoutedTokens tokens;
  int experts = 64;
  size_t step_tokens = 170;  // 1,020 rows at 6 experts per token

  size_t layers() const { return tokens.layers.size(); }
  size_t half() const { return tokens.tokens() / 2; }

  // Rows of each expert in [first, last).
  std::vector<int64_t> Rows(size_t layer, size_t first, size_t last) const {
    const size_t k = static_cast<size_t>(tokens.experts_per_token);
    std::vector<int64_t> rows(static_cast<size_t>(experts), 0);
    for (size_t i = first * k; i < last * k; ++i) {
      ++rows[static_cast<size_t>(tokens.layers[layer][i])];
    }
    return rows;
  }

  LayerPlacement Eplb(size_t layer, size_t last, int ranks, int slots_per_rank) const {
    const std::vector<int64_t> rows = Rows(layer, 0, last);
    return EplbPlacement(std::vector<double>(rows.begin(), rows.end()), ranks, slots_per_rank);
  }

  // All layers in each of the steps of [first, last).
  std::vector<StepLoad> Steps(size_t first, size_t last) const {
    std::vector<StepLoad> steps;
    for (; first + step_tokens <= last; first += step_tokens) {
      StepLoad step{experts, {}, 1};
      for (size_t layer = 0; layer < layers(); ++layer) {
        const std::vector<int64_t> rows = Rows(layer, first, first + step_tokens);
        step.rows.insert(step.rows.end(), rows.begin(), rows.end());
      }
      steps.push_back(std::move(step));
    }
    return steps;
  }
};

// Means over layers.
struct ReplanOutcome {
  double moves = 0;
  double eplb_moves = 0;
  double before = 0;     // balance of the placement in force
  double replanned = 0;  // after the replan
  double eplb = 0;       // of a fresh EPLB placement
  double even = 0;       // of the even one
};

// From the placements in force to those for `task`.
inline ReplanOutcome ReplanOn(const ReplanTask& task, const std::vector<LayerPlacement>& current) {
  const int ranks = current[0].ranks;
  const int slots_per_rank = current[0].slots_per_rank;
  const size_t layers = task.layers();
  const double per_layer = 1.0 / static_cast<double>(layers);
  const CostParameters costs;  // a row costs 1

  LoadWindowOptions window_options{static_cast<int>(layers), task.experts};
  window_options.held_out_every = 4;  // half a task has but 24 steps
  LoadWindow window(window_options);
  for (const StepLoad& step : task.Steps(0, task.half())) {
    for (int layer = 0; layer < step.layers(); ++layer) {
      const std::span<const int32_t> rows = step.OfLayer(layer);
      window.Observe(layer, std::vector<int64_t>(rows.begin(), rows.end()));
    }
    window.EndStep(static_cast<int64_t>(task.step_tokens), 0);
  }
  const ReplanDecision decision =
      DecideReplan(current, window.Planning(costs), window.HeldOut(), costs, {});
  std::vector<LayerPlacement> replanned = current;
  for (const LayerReplanned& change : decision.changes) {
    replanned[static_cast<size_t>(change.layer)] = change.placement;
  }
  std::vector<LayerPlacement> fresh;
  for (size_t layer = 0; layer < layers; ++layer) {
    fresh.push_back(task.Eplb(layer, task.half(), ranks, slots_per_rank));
  }
  const std::vector<LayerPlacement> even(layers,
                                         EvenPlacement(task.experts, ranks, slots_per_rank));
  const std::vector<StepLoad> test = task.Steps(task.half(), task.tokens.tokens());
  ReplanOutcome out;
  out.moves = static_cast<double>(CountSlotMoves(current, replanned)) * per_layer;
  out.eplb_moves = static_cast<double>(CountSlotMoves(current, fresh)) * per_layer;
  // Every layer has the same rows, so the mean weighted by rows is the mean.
  out.before = PredictedImbalance(current, test, costs);
  out.replanned = PredictedImbalance(replanned, test, costs);
  out.eplb = PredictedImbalance(fresh, test, costs);
  out.even = PredictedImbalance(even, test, costs);
  return out;
}

inline ReplanOutcome ReplanInDomain(const ReplanTask& task, int ranks, int slots_per_rank) {
  std::vector<LayerPlacement> current;
  for (size_t layer = 0; layer < task.layers(); ++layer) {
    current.push_back(task.Eplb(layer, task.half() / 2, ranks, slots_per_rank));
  }
  return ReplanOn(task, current);
}

inline ReplanOutcome ReplanUnderDrift(const ReplanTask& from, const ReplanTask& to, int ranks,
                                      int slots_per_rank) {
  std::vector<LayerPlacement> current;
  for (size_t layer = 0; layer < to.layers(); ++layer) {
    current.push_back(from.Eplb(layer, from.half(), ranks, slots_per_rank));
  }
  return ReplanOn(to, current);
}

inline ReplanOutcome ReplanFirst(const ReplanTask& task, int ranks, int slots_per_rank) {
  return ReplanOn(task, std::vector<LayerPlacement>(
                            task.layers(), EvenPlacement(task.experts, ranks, slots_per_rank)));
}

// Every case of three tasks; no cases when there are no token files in the folder.
struct ReplanCase {
  enum Kind { kInDomain, kDrift, kFirst };
  Kind kind = kInDomain;
  std::string name;
  ReplanOutcome outcome;
};

inline std::vector<ReplanCase> ReplanCases(const std::string& folder, int ranks,
                                           int slots_per_rank) {
  const std::vector<std::string> names = {"intent", "law", "summary"};
  std::vector<ReplanTask> tasks;
  for (const std::string& name : names) {
    tasks.push_back({ReadRoutedTokens(folder + name + ".csv.gz")});
    if (tasks.back().layers() == 0) {
      return {};
    }
  }
  std::vector<ReplanCase> cases;
  const auto add = [&](ReplanCase::Kind kind, std::string name, const ReplanOutcome& outcome) {
    ReplanCase& of = cases.emplace_back();
    of.kind = kind;
    of.name = std::move(name);
    of.outcome = outcome;
  };
  for (size_t to = 0; to < tasks.size(); ++to) {
    const std::string& name = names[to];
    add(ReplanCase::kInDomain, name, ReplanInDomain(tasks[to], ranks, slots_per_rank));
    add(ReplanCase::kFirst, name, ReplanFirst(tasks[to], ranks, slots_per_rank));
    for (size_t from = 0; from < tasks.size(); ++from) {
      if (from != to) {
        add(ReplanCase::kDrift, names[from] + " to " + name,
            ReplanUnderDrift(tasks[from], tasks[to], ranks, slots_per_rank));
      }
    }
  }
  return cases;
}

// Over the cases of one kind.
inline ReplanOutcome MeanOutcome(const std::vector<ReplanCase>& cases, ReplanCase::Kind kind) {
  ReplanOutcome mean;
  double count = 0;
  for (const ReplanCase& of : cases) {
    count += of.kind == kind ? 1 : 0;
  }
  for (const ReplanCase& of : cases) {
    if (of.kind == kind) {
      mean.moves += of.outcome.moves / count;
      mean.eplb_moves += of.outcome.eplb_moves / count;
      mean.before += of.outcome.before / count;
      mean.replanned += of.outcome.replanned / count;
      mean.eplb += of.outcome.eplb / count;
      mean.even += of.outcome.even / count;
    }
  }
  return mean;
}

}  // namespace ballast
