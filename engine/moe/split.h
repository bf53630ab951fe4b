// From how many rows of an expert run where to whose rows they are.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/assignment.h"

namespace ballast {

// A target is a place where rows of one expert run: targets [0, ranks * slots_per_rank) are the
// placement's slots, target ranks * slots_per_rank + i is the scratch slot of spills[i].
struct RowSplit {
  int targets = 0;
  std::vector<int32_t> rows;  // [ranks (source), targets]
};

// Local rows first, then rows of the same node, then the rest, each in ascending order of source
// rank and of target; so the same on every rank. Column sums are the assignment's rows, and for
// each source and expert the sum over that expert's targets is rows[source, expert]. Reuses out's
// vector.
void Split(std::span<const int32_t> rows, const Replicas& replicas, const CostParameters& costs,
           const Assignment& assignment, RowSplit& out);

}  // namespace ballast
