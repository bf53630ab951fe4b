// Bounds on any plan, to print next to its value. Times as in assignment.h, costs at nominal speed.
#pragma once

#include <cstdint>
#include <span>

#include "engine/moe/cost_parameters.h"

namespace ballast {

// Any placement, any assignment: the load of all experts with rows, one floor each, over the sum of
// the speeds; rounded up. expert_rows [experts]. Experts that share a rank's whole time still leave
// whole tiles only, which this bound does not use.
int64_t FreePlacementBound(std::span<const int64_t> expert_rows, const CostParameters& costs,
                           int ranks);

// Any placement of `slots` slots on ranks of nominal speed, without floors: the least T (in load)
// of at least sum / ranks with sum over experts of max(1, ceil(load / T)) <= slots. Slots fewer
// than experts have no placement: returns -1.
int64_t SlotBound(std::span<const int64_t> expert_load, int ranks, int slots);

}  // namespace ballast
