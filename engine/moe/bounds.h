// Bounds on any plan, to print next to its value. Times as in assignment.h.
#pragma once

#include <cstdint>
#include <span>

#include "engine/moe/cost_parameters.h"

namespace ballast {

// Any placement and assignment: the load of all experts with rows, one floor each, over the sum of
// the speeds; rounded up. expert_rows [experts].
int64_t FreePlacementBound(std::span<const int32_t> expert_rows, const CostParameters& costs,
                           int ranks);

// Any placement into `slots` slots on `ranks` ranks of one speed, loads divisible into units: the
// least T >= ceil(sum / ranks) with sum over experts of max(1, ceil(load / T)) <= slots; an expert
// without load needs its slot too. -1 when experts outnumber slots. expert_load [experts].
int64_t SlotBound(std::span<const int64_t> expert_load, int ranks, int slots);

}  // namespace ballast
