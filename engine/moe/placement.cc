#include "engine/moe/placement.h"

#include <cstddef>

namespace ballast {

LayerPlacement EvenPlacement(int experts, int ranks) {
  LayerPlacement placement;
  placement.ranks = ranks;
  placement.slots_per_rank = (experts + ranks - 1) / ranks;
  placement.slot_expert.resize(static_cast<size_t>(ranks) * placement.slots_per_rank);
  for (size_t slot = 0; slot < placement.slot_expert.size(); ++slot) {
    placement.slot_expert[slot] = static_cast<int32_t>(slot % static_cast<size_t>(experts));
  }
  return placement;
}

std::vector<int> ExpertsOfRank(const LayerPlacement& placement, int rank) {
  const auto begin = placement.slot_expert.begin() + rank * placement.slots_per_rank;
  return {begin, begin + placement.slots_per_rank};
}

}  // namespace ballast
