// What operators see and decide of the experts: load, placement, balancing. Plain structs of
// engine.h.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/moe/placement.h"
#include "engine/status.h"

namespace ballast {

// Rows of one MoE layer since the engine started. Both sum to tokens * experts_per_token.
struct LayerLoad {
  int32_t layer = 0;                 // the model's number of the layer
  std::vector<int64_t> expert_rows;  // [experts] rows routed there, recomputation included
  std::vector<int64_t> rank_rows;    // [ranks] the same rows where they ran, spills included
};

// A snapshot at a step boundary, cumulative: two of them give a window.
struct ExpertLoad {
  uint64_t placement_version = 1;
  int64_t steps = 0;
  int64_t tokens = 0;
  std::vector<LayerLoad> layers;  // MoE layers, ascending
  int64_t slot_moves = 0;         // of all commits
  // Either may be empty: not measured.
  std::vector<double> rank_wait_seconds;  // [ranks] waiting for other ranks in exchanges
  std::vector<double> rank_speed;         // [ranks] not cumulative; 1 is nominal, the fastest
};

struct PlacementState {
  uint64_t version = 1;                // grows by one with every commit
  std::vector<LayerPlacement> layers;  // [layers of the model]; dense ones have none
};

// A placement that an operator asks for. Layers that are left empty stay as they are.
struct PlacementRequest {
  std::vector<LayerPlacement> layers;  // [layers of the model]
  uint64_t expected_version = 0;       // 0: any
  bool dry_run = false;
};

struct PlacementChange {
  uint64_t version = 1;    // in force now; of a dry run the one it was checked against
  int64_t slot_moves = 0;  // (layer, rank, expert) newly present
  int64_t bytes = 0;       // slot_moves * packed size of an expert
  double predicted_imbalance_before = 1;  // max/mean predicted rank time, weighted by rows
  double predicted_imbalance_after = 1;
};

// INVALID_ARGUMENT names layer, rank and expert; ABORTED: another apply runs or the version is
// stale, with both values; UNAVAILABLE: the engine has stopped.
using PlacementCallback = std::function<void(absl::StatusOr<PlacementChange>)>;

struct BalancingState {
  bool paused = false;
  std::string mode;  // --balance
};

// Why weights moved, for metrics.
enum class MoveCause : uint8_t { kReplan, kApply, kRollback };

// A commit: from the next step on this placement is in force.
struct PlacementReport {
  MoveCause cause = MoveCause::kReplan;
  const PlacementState* placement = nullptr;
  int64_t slot_moves = 0;
  int64_t bytes = 0;
};

}  // namespace ballast
