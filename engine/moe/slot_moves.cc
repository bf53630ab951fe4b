#include "engine/moe/slot_moves.h"

#include <algorithm>

namespace ballast {
namespace {

bool Holds(const LayerPlacement& placement, int rank, int32_t expert) {
  const auto first = placement.slot_expert.begin() + rank * placement.slots_per_rank;
  return std::find(first, first + placement.slots_per_rank, expert) !=
         first + placement.slots_per_rank;
}

// Calls take(rank, expert) for every expert of `to` that is new on its rank.
template <typename Take>
void ForEachArrival(const LayerPlacement& from, const LayerPlacement& to, const Take& take) {
  for (int rank = 0; rank < to.ranks; ++rank) {
    for (const int expert : ExpertsOfRank(to, rank)) {
      if (expert >= 0 && !Holds(from, rank, expert)) take(rank, expert);
    }
  }
}

}  // namespace

std::vector<SlotMove> ListSlotMoves(int32_t layer, const LayerPlacement& from,
                                    const LayerPlacement& to, std::span<const int32_t> node) {
  std::vector<SlotMove> moves;
  std::vector<int> sent(static_cast<size_t>(from.ranks), 0);
  ForEachArrival(from, to, [&](int rank, int32_t expert) {
    const auto is_far = [&](int source) {
      return !node.empty() && node[static_cast<size_t>(source)] != node[static_cast<size_t>(rank)];
    };
    int best = -1;
    for (int source = 0; source < from.ranks; ++source) {
      if (!Holds(from, source, expert)) continue;
      if (best < 0 || is_far(source) < is_far(best) ||
          (is_far(source) == is_far(best) &&
           sent[static_cast<size_t>(source)] < sent[static_cast<size_t>(best)])) {
        best = source;
      }
    }
    ++sent[static_cast<size_t>(best)];
    moves.push_back({layer, expert, best, rank});
  });
  return moves;
}

std::vector<size_t> GroupChanges(std::span<const LayerPlacement> current,
                                 std::span<const LayerChange> changes, int spares) {
  std::vector<size_t> ends;
  std::vector<int> taken;
  for (size_t i = 0; i < changes.size(); ++i) {
    const LayerChange& change = changes[i];
    std::vector<int> arrivals(static_cast<size_t>(change.placement.ranks), 0);
    ForEachArrival(current[static_cast<size_t>(change.layer)], change.placement,
                   [&](int rank, int32_t) { ++arrivals[static_cast<size_t>(rank)]; });
    taken.resize(arrivals.size(), 0);
    bool fits = true;
    for (size_t rank = 0; rank < taken.size(); ++rank) {
      fits &= taken[rank] + arrivals[rank] <= spares;
    }
    if (!fits && i > 0 && (ends.empty() || ends.back() != i)) {
      ends.push_back(i);
      std::fill(taken.begin(), taken.end(), 0);
    }
    for (size_t rank = 0; rank < taken.size(); ++rank) taken[rank] += arrivals[rank];
  }
  if (!changes.empty()) ends.push_back(changes.size());
  return ends;
}

}  // namespace ballast
