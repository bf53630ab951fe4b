// A layer's placement turned round: where each expert stands. Built once per placement version.
#pragma once

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
  std::vector<int32_t> begin;        // [experts + 1] expert e stands in slot[begin[e], begin[e+1])
  std::vector<int32_t> slot;         // [filled slots] ascending per expert, so ascending by rank
  std::vector<int32_t> shared;       // experts with two slots or more, ascending
  std::vector<int32_t> rank_begin;   // [ranks + 1] into rank_shared_slot
  std::vector<int32_t> rank_shared_slot;  // slots of shared experts, by rank, ascending
};

inline std::span<const int32_t> SlotsOf(const Replicas& replicas, int expert) {
  return {replicas.slot.data() + replicas.begin[expert],
          replicas.slot.data() + replicas.begin[expert + 1]};
}

inline std::span<const int32_t> SharedSlotsOfRank(const Replicas& replicas, int rank) {
  return {replicas.rank_shared_slot.data() + replicas.rank_begin[rank],
          replicas.rank_shared_slot.data() + replicas.rank_begin[rank + 1]};
}

// Requires experts in [-1, experts) and none twice on a rank (checked: our own mistake, since files
// are validated where they are read). An expert may stand nowhere as long as it gets no rows.
// Reuses the vectors of `out`.
void BuildReplicas(const LayerPlacement& placement, int experts, Replicas& out);

}  // namespace ballast
