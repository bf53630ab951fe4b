#include "engine/moe/replan.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "engine/moe/replan_layer.h"
#include "engine/status.h"

namespace ballast {
namespace {

// A layer's predicted time in each of some steps.
class Times {
 public:
  Times(std::span<const StepLoad> steps, const CostParameters& costs, std::span<const int32_t> node)
      : steps_(steps), costs_(costs), node_(node) {}

  std::vector<double> Of(int layer, const LayerPlacement& placement) {
    std::vector<double> times;
    if (!steps_.empty()) {
      BuildReplicas(placement, steps_[0].experts, node_, replicas_);
    }
    for (const StepLoad& step : steps_) {
      const Assignment& assignment = PredictLayer(step.OfLayer(layer), replicas_, costs_, scratch_);
      times.push_back(static_cast<double>(assignment.value));
    }
    return times;
  }

  double Mean(const std::vector<double>& times) const {
    double sum = 0;
    double weights = 0;
    for (size_t i = 0; i < times.size(); ++i) {
      sum += steps_[i].weight * times[i];
      weights += steps_[i].weight;
    }
    return weights > 0 ? sum / weights : 0;
  }

  // How far the mean of `from` less `to` may be off by chance: its standard error, more when few
  // steps tell what that is. One step tells nothing.
  double Scatter(const std::vector<double>& from, const std::vector<double>& to) const {
    const double count = static_cast<double>(from.size());
    if (count < 2) {
      return INFINITY;
    }
    const double mean = Mean(from) - Mean(to);
    double squares = 0;
    double weights = 0;
    for (size_t i = 0; i < from.size(); ++i) {
      const double off = steps_[i].weight * (from[i] - to[i] - mean);
      squares += off * off;
      weights += steps_[i].weight;
    }
    const double error = std::sqrt(squares * count / (count - 1)) / weights;
    return error * count / (count - 1);
  }

 private:
  std::span<const StepLoad> steps_;
  const CostParameters& costs_;
  std::span<const int32_t> node_;
  Replicas replicas_;
  PredictionScratch scratch_;
};

bool Pays(double gain, int64_t moves, const ReplanOptions& options) {
  return gain > 0 && gain * static_cast<double>(options.horizon_steps) >
                         static_cast<double>(moves) * options.move_cost;
}

LayerReplanOptions OptionsOfLayer(const ReplanOptions& options, const CostParameters& costs,
                                  double variation, double time) {
  LayerReplanOptions of_layer;
  of_layer.max_moves =
      static_cast<int>(std::min<int64_t>(options.max_layer_moves, options.max_moves));
  // Every single move has to pay, so that a good one does not carry poor ones along.
  const double horizon = static_cast<double>(std::max<int64_t>(options.horizon_steps, 1));
  of_layer.least_gain =
      std::max(options.least_gain, time > 0 ? options.move_cost / horizon / time : 0);
  of_layer.variation = variation;
  of_layer.speed = costs.speed;
  of_layer.node = options.node;
  return of_layer;
}

// Takes the best changes per move that fit under max_moves together.
void TakeBest(std::vector<LayerReplanned>& found, const ReplanOptions& options,
              ReplanDecision& decision) {
  const auto per_move = [](const LayerReplanned& change) {
    return (change.before - change.after) / std::max(change.moves, 1);
  };
  std::sort(found.begin(), found.end(), [&](const LayerReplanned& a, const LayerReplanned& b) {
    const double left = per_move(a);
    const double right = per_move(b);
    return left != right ? left > right : a.layer < b.layer;
  });
  for (LayerReplanned& change : found) {
    if (decision.moves + change.moves <= options.max_moves) {
      decision.moves += change.moves;
      decision.after -= change.before - change.after;
      decision.changes.push_back(std::move(change));
    }
  }
  std::sort(decision.changes.begin(), decision.changes.end(),
            [](const LayerReplanned& a, const LayerReplanned& b) { return a.layer < b.layer; });
}

}  // namespace

ReplanDecision DecideReplan(std::span<const LayerPlacement> current, const PlanningLoad& load,
                            std::span<const StepLoad> held_out, const CostParameters& costs,
                            const ReplanOptions& options) {
  CHECK(static_cast<size_t>(load.layers()) == current.size());
  for (const StepLoad& step : held_out) {
    CHECK(step.experts == load.experts && step.layers() == load.layers());
  }
  ReplanDecision decision;
  if (held_out.empty()) {
    return decision;
  }
  Times times(held_out, costs, options.node);
  ReplanScratch scratch;
  std::vector<LayerReplanned> found;
  for (int layer = 0; layer < load.layers(); ++layer) {
    const std::vector<double> before = times.Of(layer, current[layer]);
    const double mean = times.Mean(before);
    decision.before += mean;
    LayerReplan plan =
        ReplanLayer(current[layer], load.OfLayer(layer),
                    OptionsOfLayer(options, costs, load.variation[layer], mean), scratch);
    if (plan.placement.slot_expert == current[layer].slot_expert) {
      continue;
    }
    const std::vector<double> after = times.Of(layer, plan.placement);
    const double gain = mean - times.Mean(after) - times.Scatter(before, after);
    if (Pays(gain, plan.moves, options)) {
      found.push_back({layer, std::move(plan.placement), plan.moves, mean, times.Mean(after)});
    }
  }
  decision.after = decision.before;
  TakeBest(found, options, decision);

  std::vector<LayerPlacement> planned(current.begin(), current.end());
  for (const LayerReplanned& change : decision.changes) {
    planned[change.layer] = change.placement;
  }
  decision.imbalance_before = PredictedImbalance(current, held_out, costs, options.node);
  decision.imbalance_after = PredictedImbalance(planned, held_out, costs, options.node);
  return decision;
}

std::vector<int> LayersToRollBack(std::span<const LayerPlacement> before,
                                  std::span<const LayerPlacement> after,
                                  std::span<const StepLoad> since, const CostParameters& costs,
                                  const ReplanOptions& options) {
  CHECK(before.size() == after.size());
  std::vector<int> layers;
  Times times(since, costs, options.node);
  for (size_t i = 0; i < after.size(); ++i) {
    if (before[i].slot_expert == after[i].slot_expert) {
      continue;
    }
    const int layer = static_cast<int>(i);
    const std::vector<double> as_is = times.Of(layer, after[i]);
    const std::vector<double> as_was = times.Of(layer, before[i]);
    const double gain = times.Mean(as_is) - times.Mean(as_was) - times.Scatter(as_is, as_was);
    if (Pays(gain, CountSlotMoves(after[i], before[i]), options)) {
      layers.push_back(layer);
    }
  }
  return layers;
}

}  // namespace ballast
