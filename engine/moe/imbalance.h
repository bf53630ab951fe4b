// What placements are predicted to do to steps, and how far one is from another: the numbers that
// plans are judged and reported by.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/assignment.h"
#include "engine/moe/cost_parameters.h"
#include "engine/moe/placement.h"
#include "engine/moe/replicas.h"

namespace ballast {

// The rows of one step, whichever rank their tokens were on.
struct StepLoad {
  int experts = 0;
  std::vector<int32_t> rows;  // [MoE layers, experts]
  double weight = 1;          // steps that this one stands for

  int layers() const { return experts == 0 ? 0 : static_cast<int>(rows.size()) / experts; }
  std::span<const int32_t> OfLayer(int layer) const {
    return std::span(rows).subspan(static_cast<size_t>(layer) * static_cast<size_t>(experts),
                                   static_cast<size_t>(experts));
  }
};

// Reused from call to call by one thread.
struct PredictionScratch {
  std::vector<int32_t> rows;  // [ranks (source), experts]
  AssignScratch assign;
  Assignment assignment;
};

// Assigns one layer's rows [experts], dealt evenly to the source ranks, as costs.mode says. The
// answer is scratch.assignment.
const Assignment& PredictLayer(std::span<const int32_t> expert_rows, const Replicas& replicas,
                               const CostParameters& costs, PredictionScratch& scratch);

// max / mean of the predicted time of ranks after assign (spills left aside; plain expert
// parallelism where the mode is off), the mean over layers and steps weighted by rows and
// StepLoad::weight. 1 without load. placements [MoE layers of every step]; node [ranks] or empty.
double PredictedImbalance(std::span<const LayerPlacement> placements,
                          std::span<const StepLoad> steps, const CostParameters& costs,
                          std::span<const int32_t> node = {});

// How many (rank, expert) stand in `to` and not in `from`: weights that must travel. Order within a
// rank counts for nothing; slots per rank may differ, ranks may not (checked).
int64_t CountSlotMoves(const LayerPlacement& from, const LayerPlacement& to);

// The same of all layers.
int64_t CountSlotMoves(std::span<const LayerPlacement> from, std::span<const LayerPlacement> to);

}  // namespace ballast
