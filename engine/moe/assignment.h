// How many rows of each expert each rank runs in this step, for one layer.
//
// A pure function of row counts, placement and integer costs: every rank evaluates it and gets the
// same answer. The discrete problem: an expert with n rows is ceil(n / tile_rows) tiles, at most
// one of them not full; tiles are divided over the ranks that hold the expert. A rank's load is
// floor_cost for each expert that has rows there plus tile_cost for each tile; its time is
// ceil(load * 1024 / speed); the value is the longest time of a rank.
//
// With floor_cost 0 the value is the least possible (least_time.h). With a floor that is NP-hard
// (PARTITION hides in it): the bound is the higher of two flows (BoundKind), the rounding is
// rounding.h's heuristic.
//
// Ties keep rows where plain expert parallelism runs them: on their own rank if the expert stands
// there, else on the replica that Replicas::plain_slot names. Without a floor, rows leave that rank
// only when it would be over the value; with one, an expert's rows gather at the replica that has
// most of them, and all stay when that is no worse.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/cost_parameters.h"
#include "engine/moe/least_time.h"
#include "engine/moe/replicas.h"
#include "engine/moe/rounding.h"
#include "engine/moe/spill.h"

namespace ballast {

// What bound_experts are too much for, on the ranks that hold them, in a time of bound - 1.
enum class BoundKind {
  kNone,    // nothing was sought (mode off), or nothing needs proof (no rows)
  kTiles,   // their tiles (no floor)
  kFloors,  // their tiles and a floor for each, all divisible
  kPieces,  // pieces of a floor and a tile, indivisible (decode: experts of one tile)
};

// Times are predicted, in units of CostParameters.
struct Assignment {
  std::vector<int32_t> slot_rows;  // [ranks * slots_per_rank] 0 in empty slots
  std::vector<Spill> spills;       // ascending (to, expert); with slot_rows they sum to the rows

  int64_t value = 0;         // of this assignment, imports and exports included
  int64_t assign_value = 0;  // before spilling
  int64_t plain_value = 0;   // of plain expert parallelism on this placement
  int64_t bound = 0;         // no assignment without spills takes less; assign_value if no floor
  BoundKind bound_kind = BoundKind::kNone;
  std::vector<int32_t> bound_experts;  // the min cut, ascending
  std::vector<int64_t> rank_time;      // [ranks] predicted, imports and exports included

  int64_t gap() const { return assign_value - bound; }
};

// Reused from call to call by one thread; with it and `out` warm, Assign allocates nothing.
struct AssignScratch {
  std::vector<int32_t> expert_rows;  // [experts]
  std::vector<int32_t> plain;        // [slots] rows under plain expert parallelism
  std::vector<int64_t> units;        // [slots]
  std::vector<int64_t> keep;         // [slots]
  std::vector<int64_t> tiles;        // [slots]
  LeastTime cut;
  FlowScratch flow;
  RoundingScratch rounding;
  SpillScratch spill;
  SpillPlan plan;
};

// rows [ranks (source) * experts]: rows that tokens of a rank send to an expert; not negative, and
// all of an expert's fit in 31 bits. Costs must be valid for the placement's ranks, every expert
// with rows must stand somewhere, and no load may pass kMaxLoad (checked).
void Assign(std::span<const int32_t> rows, const Replicas& replicas, const CostParameters& costs,
            AssignScratch& scratch, Assignment& out);

// The same where allocations do not matter: plans and tests.
Assignment Assign(std::span<const int32_t> rows, int experts, const LayerPlacement& placement,
                  const CostParameters& costs);

// Checks a bound by summation alone.
bool BoundIsProven(std::span<const int32_t> rows, const Replicas& replicas,
                   const CostParameters& costs, const Assignment& assignment);

}  // namespace ballast
