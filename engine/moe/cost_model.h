// What experts cost on each rank, fitted online from measured times.
//
// seconds of a layer's experts = (floor * live experts + tile * tiles) * 1024 / speed[rank].
//
// Floor and tile cost are a Theil-Sen line (median of slopes over pairs, then median of intercepts)
// of seconds per live expert against tiles per live expert, pooled over ranks after each rank's
// speed is taken out. A rank's speed is the median over its last steps of the median over layers of
// predicted against measured time. Medians over short windows are what makes a throttled rank seen
// within half a window, and forgotten as fast, while a spike of any height moves nothing.
// The fastest rank's speed is 1024.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/cost_parameters.h"

namespace ballast {

// One layer's experts on one rank in one step.
struct ExpertTiming {
  int32_t live_experts = 0;  // experts with rows on the rank; spilled ones included
  int64_t tiles = 0;
  double seconds = 0;
};

// Counts a timing's live experts and tiles. slot_rows: rows of each expert that ran on the rank.
ExpertTiming TimingOf(std::span<const int32_t> slot_rows, int32_t tile_rows, double seconds);

// What is learned, for the state file. Costs in nanoseconds.
struct CostState {
  double floor_ns = 0;
  double tile_ns = 0;
  std::vector<double> speed;  // [ranks] 1: the fastest rank
};

struct CostModelOptions {
  int ranks = 1;
  int32_t tile_rows = 1;
  int speed_window = 15;         // steps: a change is seen after more than half of them
  int fit_window = 96;           // timings of all ranks that the line is fitted to
  double publish_change = 0.03;  // smaller changes of any number keep the published version
};

// Pure given its observations; one thread at a time. Memory is fixed at construction.
class CostModel {
 public:
  explicit CostModel(const CostModelOptions& options);

  // Starts from what an earlier run learned. InvalidArgument when it has another number of ranks or
  // values that are not finite, positive and in range; then nothing changes.
  absl::Status Restore(const CostState& state);

  // A rank's timings of one step, any number of layers. Timings without live experts or without a
  // positive finite time count for nothing.
  void Observe(int rank, std::span<const ExpertTiming> layers);

  // Writes tile_rows, tile_cost, floor_cost, speed into `costs` and raises its version, if any of
  // them differs enough from what stands there; everything else is the caller's. Returns whether it
  // did. Before the first fit: floor 0, tile cost 1000, all speeds nominal.
  bool Publish(CostParameters& costs) const;

  // Predicted seconds of a layer on a rank.
  double Predict(int rank, int32_t live_experts, int64_t tiles) const;

  CostState state() const;
};

}  // namespace ballast
