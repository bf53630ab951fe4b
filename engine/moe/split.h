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

// Reused from call to call; never allocates once it has seen the largest layer.
struct SplitScratch {
  std::vector<int32_t> left;         // [targets] rows still to come
  std::vector<uint8_t> spilled;      // [experts]
  std::vector<int32_t> target;       // of the expert at hand
  std::vector<int32_t> target_rank;  // its rank
  std::vector<int32_t> source_left;  // [ranks]
};

// Local rows first, then rows of the same node, then the rest, each in ascending order of source
// rank and of target: the same on every rank. Column sums are the assignment's rows; for each
// source and expert the sum over that expert's targets is rows[source, expert]. `assignment` must
// come from these rows and this placement.
void Split(std::span<const int32_t> rows, const Replicas& replicas, const Assignment& assignment,
           SplitScratch& scratch, RowSplit& out);

}  // namespace ballast
