// Which slots hold which experts. A slot is a place for one expert's weights on a rank.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/status.h"

namespace ballast {

// One layer's placement. An expert may stand in several slots, never twice on one rank.
struct LayerPlacement {
  int ranks = 1;
  int slots_per_rank = 0;
  std::vector<int32_t> slot_expert;  // [ranks * slots_per_rank], rank-major; -1: empty
};

// The default: rank-major slot i holds expert i mod experts. slots_per_rank 0 is the fewest that
// hold every expert, ceil(experts / ranks). A slot whose expert stands on that rank already stays
// empty; that takes more slots on a rank than there are experts.
// Requires slots_per_rank >= 0; with ranks * slots_per_rank < experts some experts stand nowhere,
// which ValidatePlacement tells.
LayerPlacement EvenPlacement(int experts, int ranks, int slots_per_rank = 0);

// The experts of one rank's slots; -1: empty.
std::vector<int> ExpertsOfRank(const LayerPlacement& placement, int rank);

// Whether `placement` can serve a layer of `experts` on `ranks` ranks: so many ranks, one expert or
// -1 per slot, none twice on a rank, every one somewhere. INVALID_ARGUMENT names `layer`, rank and
// expert, what was found and what was expected. Pure.
absl::Status ValidatePlacement(const LayerPlacement& placement, int layer, int experts, int ranks);

}  // namespace ballast
