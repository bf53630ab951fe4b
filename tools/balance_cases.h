// Layers for the tests and benchmarks of balancing: random loads and placements.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "engine/moe/cost_parameters.h"
#include "engine/moe/placement.h"
#include "engine/moe/replicas.h"

namespace ballast {

struct Layer {
  int experts = 0;
  LayerPlacement placement;
  Replicas replicas;
  std::vector<int32_t> rows;  // [ranks (source), experts]
  CostParameters costs;

  int64_t RowsOf(int expert) const {
    int64_t sum = 0;
    for (int source = 0; source < placement.ranks; ++source) {
      sum += rows[static_cast<size_t>(source) * experts + expert];
    }
    return sum;
  }
  bool Holds(int rank, int expert) const {
    const auto begin = placement.slot_expert.begin() + rank * placement.slots_per_rank;
    return std::find(begin, begin + placement.slots_per_rank, expert) !=
           begin + placement.slots_per_rank;
  }
};

struct LayerShape {
  int ranks = 1;
  int experts = 1;
  int slots_per_rank = 1;  // ranks * slots_per_rank >= experts
  int max_rows = 10;       // of one source for one expert
  int hot = 1;             // one expert in this many gets ten times as many
};

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int operator()(int low, int high) {
    return low + static_cast<int>(engine_() % static_cast<uint32_t>(high - low + 1));
  }

 private:
  std::mt19937 engine_;
};

// Every expert once, then replicas wherever one may go, or an empty slot.
inline LayerPlacement RandomPlacement(const LayerShape& shape, Random& random) {
  LayerPlacement placement;
  placement.ranks = shape.ranks;
  placement.slots_per_rank = shape.slots_per_rank;
  placement.slot_expert.assign(static_cast<size_t>(shape.ranks) * shape.slots_per_rank, -1);
  std::vector<int> order(placement.slot_expert.size());
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[static_cast<size_t>(random(0, static_cast<int>(i) - 1))]);
  }
  for (size_t i = 0; i < order.size(); ++i) {
    const int expert =
        static_cast<int>(i) < shape.experts ? static_cast<int>(i) : random(-1, shape.experts - 1);
    const int rank = order[i] / shape.slots_per_rank;
    const auto begin = placement.slot_expert.begin() + rank * shape.slots_per_rank;
    if (std::find(begin, begin + shape.slots_per_rank, expert) == begin + shape.slots_per_rank) {
      placement.slot_expert[static_cast<size_t>(order[i])] = expert;
    }
  }
  return placement;
}

inline Layer RandomLayer(const LayerShape& shape, Random& random) {
  Layer layer;
  layer.experts = shape.experts;
  layer.placement = RandomPlacement(shape, random);
  BuildReplicas(layer.placement, shape.experts, {}, layer.replicas);
  for (int source = 0; source < shape.ranks; ++source) {
    for (int expert = 0; expert < shape.experts; ++expert) {
      layer.rows.push_back(random(0, shape.max_rows) * (expert % shape.hot == 0 ? 10 : 1) *
                           random(0, 1));
    }
  }
  return layer;
}

inline std::vector<int32_t> RandomSpeeds(int ranks, Random& random) {
  std::vector<int32_t> speed;
  for (int rank = 0; rank < ranks; ++rank) {
    speed.push_back(random(0, 2) == 0 ? random(200, 1400) : kNominalSpeed);
  }
  return speed;
}

// Replicates by load per replica and packs the largest first: a placement as a replan might make.
inline LayerPlacement PackedPlacement(const std::vector<double>& load, int ranks,
                                      int slots_per_rank) {
  const int experts = static_cast<int>(load.size());
  std::vector<int> count(load.size(), 1);
  const auto share = [&](int e) {
    return load[static_cast<size_t>(e)] / count[static_cast<size_t>(e)];
  };
  std::vector<int> copies(load.size());
  std::iota(copies.begin(), copies.end(), 0);
  while (static_cast<int>(copies.size()) < ranks * slots_per_rank) {
    int best = -1;
    for (int e = 0; e < experts; ++e) {
      if (count[static_cast<size_t>(e)] < ranks && (best < 0 || share(e) > share(best))) {
        best = e;
      }
    }
    if (best < 0) {
      break;
    }
    ++count[static_cast<size_t>(best)];
    copies.push_back(best);
  }
  std::sort(copies.begin(), copies.end(),
            [&](int a, int b) { return share(a) != share(b) ? share(a) > share(b) : a < b; });
  LayerPlacement placement{ranks, slots_per_rank, {}};
  placement.slot_expert.assign(static_cast<size_t>(ranks) * slots_per_rank, -1);
  std::vector<double> weight(static_cast<size_t>(ranks), 0);
  for (const int e : copies) {
    int32_t* best = nullptr;
    int best_rank = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      int32_t* begin = placement.slot_expert.data() + rank * slots_per_rank;
      int32_t* end = begin + slots_per_rank;
      int32_t* empty = std::find(begin, end, -1);
      if (empty != end && std::find(begin, end, e) == end &&
          (best == nullptr || weight[rank] < weight[best_rank])) {
        best = empty;
        best_rank = rank;
      }
    }
    // A later replica that finds no rank is left out; a first one always finds an empty slot.
    if (best != nullptr) {
      *best = e;
      weight[best_rank] += share(e);
    }
  }
  return placement;
}

}  // namespace ballast
