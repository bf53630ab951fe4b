// A layer's placement turned round: where each expert stands. Built once per placement version.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/placement.h"

namespace ballast {

// Slots are numbered rank-major as in LayerPlacement. "Shared" experts stand on two ranks or more;
// only they leave a choice.
struct Replicas {
  int ranks = 1;
  int experts = 0;
  int slots_per_rank = 0;
  std::vector<int32_t> slot_expert;  // [slots] -1: empty
  std::vector<int32_t> slot_rank;    // [slots]
  std::vector<int32_t> begin;        // [experts + 1] e stands in slot[begin[e], begin[e + 1])
  std::vector<int32_t> slot;         // [filled slots] ascending per expert, so ascending by rank
  std::vector<int32_t> shared;       // experts with two slots or more, ascending
  std::vector<int32_t> rank_begin;   // [ranks + 1] into rank_shared_slot
  std::vector<int32_t> rank_shared_slot;  // slots of shared experts, ascending
  std::vector<int32_t> node;              // [ranks] equal labels share a machine; empty: all do
  // Plain expert parallelism: the slot that runs a source rank's rows of a shared expert. Its own
  // rank's if there is one; else of the slots on its node, or of all slots when there are none
  // there, the one at (source rank modulo their number).
  std::vector<int32_t> plain_slot;  // [ranks (source), shared experts]

  int slots() const { return static_cast<int>(slot_expert.size()); }
  bool SameNode(int a, int b) const {
    return node.empty() || node[static_cast<size_t>(a)] == node[static_cast<size_t>(b)];
  }
  std::span<const int32_t> SlotsOf(int expert) const {
    const int32_t* of_expert = begin.data() + expert;
    return {slot.data() + of_expert[0], slot.data() + of_expert[1]};
  }
  std::span<const int32_t> SharedSlotsOf(int rank) const {
    const int32_t* of_rank = rank_begin.data() + rank;
    return {rank_shared_slot.data() + of_rank[0], rank_shared_slot.data() + of_rank[1]};
  }
};

// Requires slot_expert within [-1, experts), no expert twice on a rank, and node empty or [ranks];
// checked, since files are validated where they are read. An expert may stand nowhere as long as it
// gets no rows. Reuses the vectors of `out`.
void BuildReplicas(const LayerPlacement& placement, int experts, std::span<const int32_t> node,
                   Replicas& out);

}  // namespace ballast
