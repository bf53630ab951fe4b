// The published expert-parallelism load balancer (github.com/deepseek-ai/EPLB, "global" policy), in
// our own words: what replans are measured against.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "engine/moe/placement.h"

namespace ballast {

// Each slot beyond one per expert goes to the expert with the most load per replica; then replicas
// go, heaviest first, to the lightest rank that has a slot left. Nothing is known of the placement
// before. It may put two replicas of an expert on one rank; the second is folded to an empty slot,
// as Assign wants it and as our own reading of such files does. slots >= experts.
inline LayerPlacement EplbPlacement(std::span<const double> load, int ranks, int slots_per_rank) {
  const int slots = ranks * slots_per_rank;
  std::vector<int> count(load.size(), 1);
  const auto share = [&](int expert) {
    return load[static_cast<size_t>(expert)] / count[static_cast<size_t>(expert)];
  };
  std::vector<int> replicas(load.size());
  std::iota(replicas.begin(), replicas.end(), 0);
  while (static_cast<int>(replicas.size()) < slots) {
    int heaviest = 0;
    for (int expert = 1; expert < static_cast<int>(load.size()); ++expert) {
      heaviest = share(expert) > share(heaviest) ? expert : heaviest;
    }
    ++count[static_cast<size_t>(heaviest)];
    replicas.push_back(heaviest);
  }
  std::vector<size_t> order(replicas.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const double left = share(replicas[a]);
    const double right = share(replicas[b]);
    return left != right ? left > right : a < b;
  });

  LayerPlacement placement{ranks, slots_per_rank, {}};
  placement.slot_expert.assign(static_cast<size_t>(slots), -1);
  std::vector<double> weight(static_cast<size_t>(ranks), 0);
  std::vector<int> filled(static_cast<size_t>(ranks), 0);
  for (const size_t replica : order) {
    const int expert = replicas[replica];
    size_t lightest = weight.size();
    for (size_t rank = 0; rank < weight.size(); ++rank) {
      if (filled[rank] < slots_per_rank &&
          (lightest == weight.size() || weight[rank] < weight[lightest])) {
        lightest = rank;
      }
    }
    int32_t* begin = placement.slot_expert.data() + lightest * static_cast<size_t>(slots_per_rank);
    if (std::find(begin, begin + slots_per_rank, expert) == begin + slots_per_rank) {
      begin[filled[lightest]] = expert;
    }
    ++filled[lightest];
    weight[lightest] += share(expert);
  }
  return placement;
}

}  // namespace ballast
