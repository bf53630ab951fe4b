// Whole experts and whole tiles instead of divisible demands: the heuristic for costs with a floor.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/cost_parameters.h"
#include "engine/moe/replicas.h"

namespace ballast {

// Reused from call to call; never allocates once it has seen the largest layer.
struct RoundingScratch {
  std::vector<int64_t> load;       // [ranks]
  std::vector<int64_t> cap;        // [ranks]
  std::vector<int64_t> best;       // [slots]
  std::vector<int32_t> from_slot;  // [ranks]
  std::vector<int32_t> into_slot;  // [ranks]
  std::vector<int32_t> queue;      // [ranks]
  std::vector<int32_t> path;       // [ranks]
  std::vector<int64_t> passed;     // [ranks]
  std::vector<uint8_t> reached;    // [ranks]
};

// tiles [slots]: on entry any split of the experts' tiles over their replicas; on return one whose
// longest rank time, which is returned, is no longer. `bound` is a time below which there is
// nothing to find. Tries times between the bound and the best so far; at each, ranks that are over
// it hand experts or tiles to ranks with room, directly or through full ranks, where a replica that
// opens pays a floor and one that closes gives it back. A bounded number of steps.
int64_t RoundToTiles(const Replicas& replicas, const CostParameters& costs, int64_t bound,
                     std::span<int64_t> tiles, RoundingScratch& scratch);

}  // namespace ballast
