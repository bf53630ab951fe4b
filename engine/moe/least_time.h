// The least time in which divisible demands fit on the ranks that hold them: parametric max-flow
// over ranks and shared experts, with the min cut that proves it.
//
// A rank with k units of load is busy ceil(k * unit_cost * 1024 / speed), so in time T it takes
// cap(T) = floor(floor(T * speed / 1024) / unit_cost) units. The answer is the least integer T such
// that for every set A of experts the ranks that
// hold any of A have cap(T) for all of A's demand. It is found from below: overfull ranks push
// their excess along shortest paths of replicas; where no path is left, the ranks reached form a
// violated cut, and T rises to the least time that satisfies it (Newton's method on the cuts).
// Every T tried is thus a lower bound, and the last one is reached: exact.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/cost_parameters.h"
#include "engine/moe/replicas.h"

namespace ballast {

struct FlowCosts {
  int64_t unit_cost = 1;           // cost of one unit of demand
  std::span<const int32_t> speed;  // [ranks]; empty: all nominal
};

// Reused from call to call; never allocates once it has seen the largest layer.
struct FlowScratch {
  std::vector<int64_t> load;       // [ranks]
  std::vector<int64_t> cap;        // [ranks]
  std::vector<int32_t> from_slot;  // [ranks] how the search came here: out of this slot,
  std::vector<int32_t> into_slot;  // [ranks] into this one
  std::vector<int32_t> queue;      // [ranks]
  std::vector<uint8_t> reached;    // [ranks]
  std::vector<int64_t> start;      // [slots]
  std::vector<int64_t> taken;      // [ranks]
};

struct LeastTime {
  int64_t time = 0;
  // The ranks of the cut: A is every expert with demand that stands on no other rank. Empty when
  // time is 0. At time - 1 these ranks have too little capacity for A.
  std::vector<int32_t> cut_ranks;
};

// units [slots]: on entry any split of the demands over their replicas, where the rows would like
// to be; on return one that meets the time, with units moved only from ranks that were over it.
// keep [slots] or empty: units up to keep[s] leave slot s only when no path without them is left.
void FindLeastTime(const Replicas& replicas, const FlowCosts& costs, std::span<const int64_t> keep,
                   std::span<int64_t> units, FlowScratch& scratch, LeastTime& out);

// Units a rank takes in `time`.
int64_t UnitsInTime(const FlowCosts& costs, int rank, int64_t time);

// The least time for `units` units.
int64_t TimeOfUnits(const FlowCosts& costs, int rank, int64_t units);

}  // namespace ballast
