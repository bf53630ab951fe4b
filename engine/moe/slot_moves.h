// How a placement becomes another one: which experts travel from where, and in which order layers
// can change with the spare buffers that ranks have. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/placement.h"

namespace ballast {

// One expert of one layer is to stand on one more rank.
struct SlotMove {
  int32_t layer = 0;
  int32_t expert = 0;
  int32_t from = 0;  // holds it
  int32_t to = 0;    // does not
  bool operator==(const SlotMove&) const = default;
};

// A layer's placement that takes force with a step. The weights of every expert that is new on a
// rank lie in one of its spare buffers by then.
struct LayerChange {
  int32_t layer = 0;
  LayerPlacement placement;
};

// What must travel, by rank and slot of `to`. The source is a rank that holds the expert in `from`:
// one of the same node (node [ranks]; empty: all share one) if there is one; among equals the one
// that has sent least in this list, then the lower rank. Both placements are valid and of the same
// ranks.
std::vector<SlotMove> ListSlotMoves(int32_t layer, const LayerPlacement& from,
                                    const LayerPlacement& to, std::span<const int32_t> node);

// Cuts changes into runs that can be in flight together: in each run no rank gets more than
// `spares` experts, unless a single layer asks for more. current [layers]. Returns where each run
// ends.
std::vector<size_t> GroupChanges(std::span<const LayerPlacement> current,
                                 std::span<const LayerChange> changes, int spares);

}  // namespace ballast
