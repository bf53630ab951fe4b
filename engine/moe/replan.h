// Whether and how to change the placement of all layers, and whether a change was good. Pure: plans
// come from one part of the recent load and must prove themselves, by Assign's own prediction, on
// another that they have not seen. What does not pay for its moves is left alone, so a decision is
// never worse than staying put as far as that load tells.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/cost_parameters.h"
#include "engine/moe/imbalance.h"
#include "engine/moe/load_window.h"
#include "engine/moe/placement.h"

namespace ballast {

struct ReplanOptions {
  int max_layer_moves = 12;  // of one layer
  int64_t max_moves = 1024;  // of all layers together; the layers that gain most per move go first
  // What moving one expert costs those who wait for steps, in CostParameters' unit of time, and the
  // number of steps within which a gain must have made up for it.
  double move_cost = 0;
  int64_t horizon_steps = 1000;
  double least_gain = 0.003;       // of each move, as a share of the layer's time
  std::vector<int32_t> node = {};  // [ranks] equal labels share a machine; empty: all do
};

// A layer's change, and what it is predicted to do on held-out load.
struct LayerReplanned {
  int layer = 0;  // among the MoE layers
  LayerPlacement placement;
  int moves = 0;
  double before = 0;  // time of the longest rank in a step
  double after = 0;
};

struct ReplanDecision {
  std::vector<LayerReplanned> changes;  // ascending by layer; empty: stay put
  int64_t moves = 0;
  double before = 0;            // time of all layers of a step, changed or not
  double after = 0;             // never above `before`
  double imbalance_before = 1;  // PredictedImbalance on the held-out load
  double imbalance_after = 1;
};

// current [MoE layers]; held_out: steps that are not part of `load`. Without load or with fewer
// than two steps there is no change. A layer changes if the gain on held-out load is more than its
// chance scatter from step to step and pays for the moves. Placements and costs must be valid;
// shapes must agree (checked).
ReplanDecision DecideReplan(std::span<const LayerPlacement> current, const PlanningLoad& load,
                            std::span<const StepLoad> held_out, const CostParameters& costs,
                            const ReplanOptions& options);

// After a change: the layers, ascending, whose placement before would have served the load seen
// since better, by more than chance scatter and enough to pay for moving back. `since`: steps that
// were observed after the change; fewer than two prove nothing. before, after [MoE layers].
std::vector<int> LayersToRollBack(std::span<const LayerPlacement> before,
                                  std::span<const LayerPlacement> after,
                                  std::span<const StepLoad> since, const CostParameters& costs,
                                  const ReplanOptions& options);

}  // namespace ballast
