// Least-loaded spill made cost-aware: an expert's excess rows run, for this step, on a rank that
// does not hold it, which gets the weights as well (LLEP, arXiv 2601.17111, whose cap alpha * mean
// load this keeps, and whose threshold, order and minimum chunk a predicted time replaces).
//
// For several caps between the free-placement bound and what the assignment takes, ranks over the
// cap hand whole experts or tiles to ranks with room, each time in the pair that takes most of the
// excess away and, among those, fills a deficit best: few imports. An import costs its receiver
// import_cost and a floor, its sender export_cost. The fastest prediction wins; doing nothing is
// one of the choices, and is kept unless the gain is worth it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/cost_parameters.h"
#include "engine/moe/replicas.h"

namespace ballast {

// Rows of an expert that run in this step on a rank that does not hold it.
struct Spill {
  int32_t expert = 0;
  int32_t from = 0;  // the rank that sends the weights; it holds the expert
  int32_t to = 0;
  int32_t rows = 0;
  bool operator==(const Spill&) const = default;
};

// A gain of less than value / this is left alone: the cost model knows no better.
inline constexpr int64_t kLeastSpillGain = 64;

// Which rows run where, and what it takes.
struct SpillPlan {
  std::vector<int32_t> slot_rows;  // [slots]
  std::vector<Spill> spills;
  std::vector<int64_t> rank_time;  // [ranks] predicted
  int64_t value = 0;               // the longest
};

struct SpillScratch {
  SpillPlan trial;
  SpillPlan best;
  std::vector<int64_t> load;     // [ranks]
  std::vector<int64_t> extra;    // [ranks] time of imports and exports
  std::vector<int32_t> imports;  // [ranks]
};

// plan: on entry the assignment without spills; on return that or a faster one, spills ascending by
// (to, expert), at most costs.max_imports to a rank. free_bound: FreePlacementBound of its rows.
// Bounded work; allocates nothing once scratch and plan are warm.
void PlanSpills(const Replicas& replicas, const CostParameters& costs, int64_t free_bound,
                SpillScratch& scratch, SpillPlan& plan);

// For tests: half the rows of each rank's fullest slot run on the next rank that does not hold the
// expert, as far as such ranks have scratch slots (one at least). Whatever was spilled before runs
// at its own expert's slots again. Rank times stay as they were.
void ForceSpills(const Replicas& replicas, int32_t max_imports, std::vector<int32_t>& slot_rows,
                 std::vector<Spill>& spills);

}  // namespace ballast
