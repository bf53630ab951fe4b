// How many rows of each expert each rank runs in this step, for one layer.
//
// A pure function of row counts, placement and integer costs: every rank evaluates it and gets the
// same answer. The discrete problem: an expert with n rows is ceil(n / tile_rows) tiles, at most
// one of them not full; tiles are divided over the ranks that hold the expert. A rank's load is
// floor_cost per expert that has rows there plus tile_cost per tile; its time is
// ceil(load * 1024 / speed); the value is the largest time of a rank.
//
// With floor_cost 0 the value is the least possible (least_time.h). With a floor that is NP-hard
// (PARTITION hides in it): the bound is the flow in which an expert with rows is a divisible demand
// of floor_cost + its tiles, or the flow of tiles on ranks that pay one floor each, whichever is
// higher; the rounding is rounding.h's heuristic.
//
// Ties keep rows where plain expert parallelism runs them: a row runs on its own rank if the expert
// stands there; else on a replica of its node, else on any, the source rank modulo their number
// choosing among them. Rows leave that rank only when it would be over the value.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/cost_parameters.h"
#include "engine/moe/least_time.h"
#include "engine/moe/replicas.h"
#include "engine/moe/rounding.h"

namespace ballast {

// Rows of an expert that run in this step on a rank that does not hold it.
struct Spill {
  int32_t expert = 0;
  int32_t from = 0;  // the rank that sends the weights; it holds the expert
  int32_t to = 0;
  int32_t rows = 0;
  bool operator==(const Spill&) const = default;
};

enum class BoundKind {
  kNone,    // mode off: nothing was sought
  kTiles,   // the experts in bound_experts against their ranks' tiles; the floor, if any, counts
            // once per rank
  kFloors,  // their tiles and one floor for each, divisible
};

// Times are predicted, in units of CostParameters.
struct Assignment {
  std::vector<int32_t> slot_rows;  // [ranks * slots_per_rank] 0 in empty slots
  std::vector<Spill> spills;       // ascending (to, expert); slot_rows plus these sum to the rows

  int64_t value = 0;         // of this assignment, imports and exports included
  int64_t assign_value = 0;  // before spilling; the value without spills
  int64_t plain_value = 0;   // of plain expert parallelism on this placement
  int64_t bound = 0;         // no assignment without spills is faster; equals assign_value when
                             // floor_cost is 0
  BoundKind bound_kind = BoundKind::kNone;
  std::vector<int32_t> bound_experts;  // the min cut's experts, ascending: they prove the bound
  std::vector<int64_t> rank_time;      // [ranks] predicted, imports and exports included

  int64_t gap() const { return assign_value - bound; }
};

// Reused from call to call by one thread; with it and `out` warm, Assign allocates nothing.
struct AssignScratch {
  std::vector<int64_t> expert_rows;  // [experts]
  std::vector<int64_t> plain;        // [slots] rows under plain expert parallelism
  std::vector<int64_t> units;        // [slots]
  std::vector<int64_t> keep;         // [slots]
  std::vector<int64_t> tiles;        // [slots]
  FlowScratch flow;
  LeastTime least;
  LeastTime other;
  RoundingScratch rounding;
  std::vector<int64_t> spill_load;  // [ranks]
};

// rows [ranks (source) * experts]: rows that tokens of a rank send to an expert; not negative.
// Costs must be valid for the placement's ranks, and every expert with rows must stand somewhere.
void Assign(std::span<const int32_t> rows, const Replicas& replicas, const CostParameters& costs,
            AssignScratch& scratch, Assignment& out);

// The same where no one cares for allocations (plans, tests).
Assignment Assign(std::span<const int32_t> rows, int experts, const LayerPlacement& placement,
                  const CostParameters& costs);

// Checks a bound by summation alone: at `bound` - 1 the ranks that hold bound_experts cannot run
// their demand.
bool BoundIsProven(std::span<const int32_t> rows, const Replicas& replicas,
                   const CostParameters& costs, const Assignment& assignment);

}  // namespace ballast
