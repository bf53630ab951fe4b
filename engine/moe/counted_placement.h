// A placement from how often each expert was chosen.
//
// What EPLB does (github.com/deepseek-ai/EPLB, its global policy), with the difference that no
// expert stands twice on a rank: replicas go greedily to the expert with the most rows per replica,
// then replicas are packed, those with the most rows first, onto the rank with the fewest rows.
#pragma once

#include <span>

#include "engine/moe/placement.h"

namespace ballast {

// `counts` [experts] are finite and >= 0. Requires ranks * slots_per_rank >= experts. Every expert
// stands somewhere; slots stay empty only when every expert stands on every rank. Ties go to the
// expert with fewer replicas, then the lower one, and to the rank with fewer experts, then the
// lower one. Pure; O(slots * (experts + ranks * slots_per_rank)).
LayerPlacement PlacementFromCounts(std::span<const double> counts, int ranks, int slots_per_rank);

}  // namespace ballast
