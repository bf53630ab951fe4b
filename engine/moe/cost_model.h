// What experts cost on each rank, fitted online from measured times.
//
//   seconds of a layer's experts on a rank = pace[rank] * (ratio * live experts + tiles)
//
// pace is seconds per tile and ratio the floor in tiles. Both are medians over short windows:
// - ratio: two timings of one rank taken at nearly the same time, with different tiles per live
//   expert, give a line (Theil-Sen's pairs; the window has the pairs instead of all their timings,
//   so that no pair spans a change of speed). Intercepts over slopes, median by median.
// - pace: the median layer of a step, then the median over the last steps of the rank.
// So a throttled rank is seen when just over half of its window is slow, and forgotten as fast,
// while a spike of any height moves nothing. The fastest rank's speed is nominal.
//
// A slow rank may get no rows at all, and then nobody would see it recover. So the speed of one
// that has not been measured for half a window rises step by step until it gets some; what is
// measured then replaces all that was known. While that shows it as slow as before, the next try
// comes later, at most 16 half windows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "engine/moe/cost_parameters.h"

namespace ballast {

// One layer's experts on one rank in one step.
struct ExpertTiming {
  int32_t live_experts = 0;  // experts with rows on the rank, spilled ones included
  int64_t tiles = 0;
  double seconds = 0;
};

// rows: of each expert that ran on the rank (0: not live).
ExpertTiming TimingOf(std::span<const int32_t> rows, int32_t tile_rows, double seconds);

// What is learned, for the state file.
struct CostState {
  double tile_seconds = 0;    // at nominal speed
  double floor_seconds = 0;   // at nominal speed
  std::vector<double> speed;  // [ranks] 1: the fastest
};

struct CostModelOptions {
  int ranks = 1;
  int32_t tile_rows = 1;
  int pace_window = 15;          // steps; a lasting change is seen after 8
  int ratio_window = 63;         // pairs, of all ranks
  double publish_change = 0.05;  // numbers that differ by less keep the published version
};

// Pure given its observations; one thread at a time. Memory is fixed at construction.
class CostModel {
 public:
  explicit CostModel(const CostModelOptions& options);

  // Starts from what an earlier run learned; what is observed replaces it. InvalidArgument when it
  // is for another number of ranks or not finite and positive; then nothing changes.
  absl::Status Restore(const CostState& state);

  // A rank's timings of one step, any number of layers; none: it had no rows. Timings without live
  // experts or without a positive finite time count for nothing.
  void Observe(int rank, std::span<const ExpertTiming> layers);

  // Brings tile_rows, tile_cost, floor_cost (in nanoseconds) and speed of `costs` up to date and
  // raises its version, if any of them changed by more than publish_change. The rest is the
  // caller's. Returns whether it did. Before the first observation it does nothing.
  bool Publish(CostParameters& costs) const;

  // Predicted seconds of a layer on a rank; 0 before the first observation.
  double Predict(int rank, int32_t live_experts, int64_t tiles) const;

  CostState state() const;

 private:
  // The line through two timings, scaled so that fast and slow ranks weigh alike.
  struct Line {
    double intercept = 0;
    double slope = 0;
  };
  struct RankWindow {
    std::vector<ExpertTiming> steps;  // ring: the median layer of each
    size_t next = 0;
    double prior = 0;  // pace from Restore; 0: none
    int unseen = 0;    // steps since the last that was measured
    int patience = 0;  // steps without measurement before hope begins
  };

  void ObserveLine(const ExpertTiming& a, const ExpertTiming& b);
  double Ratio() const;
  double Pace(int rank, double ratio) const;
  // Half a window.
  int ShortPatience() const { return (options_.pace_window + 1) / 2; }
  // Counts a step of a rank that was or was not measured.
  void See(RankWindow& window, bool measured) const;
  // The speed to count on, given the one last measured.
  double Hope(const RankWindow& window, double speed) const;

  CostModelOptions options_;
  std::vector<RankWindow> ranks_;
  std::vector<Line> lines_;  // ring
  size_t next_line_ = 0;
  double prior_ratio_ = 0;
  std::vector<ExpertTiming> layers_;     // scratch
  mutable std::vector<double> numbers_;  // scratch
};

}  // namespace ballast
