#include "engine/moe/placement.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"

namespace ballast {

LayerPlacement EvenPlacement(int experts, int ranks, int slots_per_rank) {
  LayerPlacement placement;
  placement.ranks = ranks;
  placement.slots_per_rank = slots_per_rank > 0 ? slots_per_rank : (experts + ranks - 1) / ranks;
  placement.slot_expert.reserve(static_cast<size_t>(ranks) * placement.slots_per_rank);
  for (int rank = 0; rank < ranks; ++rank) {
    const int64_t first = int64_t{rank} * placement.slots_per_rank;
    for (int slot = 0; slot < placement.slots_per_rank; ++slot) {
      // The experts of a rank follow each other, so the first to come again is slot `experts`.
      const int64_t expert = slot < experts ? (first + slot) % experts : -1;
      placement.slot_expert.push_back(static_cast<int32_t>(expert));
    }
  }
  return placement;
}

std::vector<int> ExpertsOfRank(const LayerPlacement& placement, int rank) {
  const auto begin = placement.slot_expert.begin() + rank * placement.slots_per_rank;
  return {begin, begin + placement.slots_per_rank};
}

absl::Status ValidatePlacement(const LayerPlacement& placement, int layer, int experts, int ranks) {
  if (placement.ranks != ranks) {
    return absl::InvalidArgumentError(
        absl::StrCat("layer ", layer, ": found ", placement.ranks, " ranks, expected ", ranks));
  }
  const size_t slots = static_cast<size_t>(ranks) * std::max(placement.slots_per_rank, 0);
  if (placement.slots_per_rank < 0 || placement.slot_expert.size() != slots) {
    return absl::InvalidArgumentError(
        absl::StrCat("layer ", layer, ": found ", placement.slot_expert.size(), " slots, expected ",
                     ranks, " ranks of ", placement.slots_per_rank, " slots"));
  }
  std::vector<int32_t> last_rank(static_cast<size_t>(experts), -1);
  for (int rank = 0; rank < ranks; ++rank) {
    for (const int expert : ExpertsOfRank(placement, rank)) {
      if (expert == -1) continue;
      if (expert < -1 || expert >= experts) {
        return absl::InvalidArgumentError(absl::StrCat("layer ", layer, ", rank ", rank,
                                                       ": found expert ", expert,
                                                       ", expected 0 to ", experts - 1));
      }
      if (last_rank[expert] == rank) {
        return absl::InvalidArgumentError(absl::StrCat("layer ", layer, ", rank ", rank,
                                                       ": found expert ", expert,
                                                       " twice, expected it once at most"));
      }
      last_rank[expert] = rank;
    }
  }
  const auto missing = std::find(last_rank.begin(), last_rank.end(), -1);
  if (missing != last_rank.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("layer ", layer, ": found expert ", missing - last_rank.begin(),
                     " on no rank, expected every expert on one of the ", ranks, " ranks at least",
                     slots < static_cast<size_t>(experts)
                         ? absl::StrCat("; ", slots, " slots are too few for ", experts, " experts")
                         : ""));
  }
  return absl::OkStatus();
}

}  // namespace ballast
