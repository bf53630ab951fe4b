// A better placement for one layer in a few moves. A move is an expert newly present on a rank.
//
// The load of an expert is taken as divisible over the ranks that hold it (leveling.h). From the
// placement in force the search goes step by step, each the best gain per move that it finds from
// the ranks at the highest level: a copy of an expert into a slot that is empty or whose expert
// stands elsewhere too (one move), or an exchange of two experts (two moves). Since steps differ
// from their mean, and a placement without slack pays for it, the load is planned for as a few
// loads around the mean that differ from it as steps do.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/leveling.h"
#include "engine/moe/placement.h"

namespace ballast {

struct LayerReplanOptions {
  int max_moves = 12;
  // What a move must lower the highest level by, as a share of the mean level.
  double least_gain = 0.003;
  // Standard deviation, from step to step, of the rows of an expert of mean load, as a share of
  // them; of others it goes with the root of their load. 0: plan for the mean step alone.
  double variation = 0;
  std::span<const int32_t> speed;  // [ranks] as CostParameters::speed; empty: all alike
  // [ranks] equal labels share a machine; empty: all do. Of steps that gain about as much, the one
  // that brings an expert to a machine without it goes first.
  std::span<const int32_t> node;
};

struct LayerReplan {
  LayerPlacement placement;  // experts that stay on a rank stay in their slots
  int moves = 0;             // CountSlotMoves from the placement in force
  double before = 1;         // highest level (1: the mean), the mean over the loads planned for
  double after = 1;          // never above `before`
};

// Reused from call to call by one thread.
struct ReplanScratch {
  Leveling current;
  Leveling trial;
  Leveling best;
  std::vector<double> loads;
};

// load [experts]: not negative, in any unit. `current` must be valid (ValidatePlacement) for the
// experts. The answer is legal, within max_moves and the same for the same arguments; it is
// `current` when there is no load or nothing gains enough. Bounded work.
LayerReplan ReplanLayer(const LayerPlacement& current, std::span<const int64_t> load,
                        const LayerReplanOptions& options, ReplanScratch& scratch);

}  // namespace ballast
