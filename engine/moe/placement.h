// Which slots hold which experts. A slot is a place for one expert's weights on a rank.
#pragma once

#include <cstdint>
#include <vector>

namespace ballast {

// One layer's placement. An expert may stand in several slots, never twice on one rank.
struct LayerPlacement {
  int ranks = 1;
  int slots_per_rank = 0;
  std::vector<int32_t> slot_expert;  // [ranks * slots_per_rank], rank-major; -1: empty
};

// The default: rank-major slot i holds expert i mod experts; slots_per_rank is
// ceil(experts / ranks), so no rank holds an expert twice.
LayerPlacement EvenPlacement(int experts, int ranks);

// The experts of one rank's slots.
std::vector<int> ExpertsOfRank(const LayerPlacement& placement, int rank);

}  // namespace ballast
