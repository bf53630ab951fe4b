// Which rows go where in one layer, and how they come back: plain lists from the split that every
// rank knows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/comm/communicator.h"
#include "engine/moe/replicas.h"
#include "engine/moe/split.h"

namespace ballast {

// One rank's side of a layer's exchange. A row is one token at one expert; a target is a slot or
// the scratch slot of a spill (split.h). Rows travel by destination rank, then by target, then in
// (token, choice) order; they are computed by target, then by source rank, then in that order. So
// the order follows from the routing and the split alone.
struct DispatchPlan {
  RowLists give;                        // tokens whose hidden states go to each rank
  std::vector<int32_t> choice;          // [given rows] token * k + choice each is the answer to
  std::vector<int32_t> receive_counts;  // [ranks] rows that come from each rank
  std::vector<int32_t> order;           // [received rows] expert row r is received row order[r]
  std::vector<int32_t> targets;         // this rank's targets, ascending
  std::vector<int32_t> target_begin;    // [targets + 1] rows of each
  RowLists back;                        // expert rows that go back to each rank
  std::vector<int32_t> return_counts;   // [ranks] rows that come back from each rank
};

// Scratch of PlanDispatch; its vectors keep their capacity.
struct DispatchScratch {
  std::vector<int32_t> expert_begin;  // [experts + 1]
  std::vector<int32_t> by_expert;     // [rows] token * k + choice, by expert
  std::vector<int32_t> target_first;  // [targets] where in by_expert the target's rows begin
  std::vector<int32_t> received;      // [ranks, own targets] where a segment begins
};

// ids [tokens * k]: the experts that this rank's tokens chose, best first. Pure.
void PlanDispatch(int rank, std::span<const int32_t> ids, int32_t k, const Replicas& replicas,
                  const std::vector<Spill>& spills, const RowSplit& split, DispatchScratch& scratch,
                  DispatchPlan& out);

// How many of `ids` name each expert. counts [experts].
void CountRows(std::span<const int32_t> ids, std::span<int32_t> counts);

}  // namespace ballast
