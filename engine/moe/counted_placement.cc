#include "engine/moe/counted_placement.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <vector>

#include "engine/status.h"

namespace ballast {
namespace {

struct PackedRank {
  std::vector<int32_t> experts;
  double load = 0;

  bool Holds(int expert) const {
    return std::find(experts.begin(), experts.end(), expert) != experts.end();
  }
};

class Packing {
 public:
  Packing(std::span<const double> counts, int ranks, int slots_per_rank)
      : counts_(counts),
        replicas_(counts.size(), 1),
        ranks_(static_cast<size_t>(ranks)),
        slots_per_rank_(static_cast<size_t>(slots_per_rank)) {}

  // An expert for every slot; sorted by rows per replica.
  std::vector<int> Replicate() {
    std::vector<int> copies(counts_.size());
    std::iota(copies.begin(), copies.end(), 0);
    while (copies.size() < ranks_.size() * slots_per_rank_) {
      const int most = MostLoaded();
      if (most < 0) break;
      ++replicas_[most];
      copies.push_back(most);
    }
    std::stable_sort(copies.begin(), copies.end(),
                     [this](int a, int b) { return Share(a) > Share(b); });
    return copies;
  }

  void Place(int expert) {
    PackedRank* best = nullptr;
    for (PackedRank& rank : ranks_) {
      if (rank.experts.size() < slots_per_rank_ && !rank.Holds(expert) &&
          (best == nullptr || Lighter(rank, *best))) {
        best = &rank;
      }
    }
    if (best == nullptr) {
      PlaceBySwap(expert);
    } else {
      best->experts.push_back(expert);
      best->load += Share(expert);
    }
  }

  LayerPlacement Take() const {
    LayerPlacement placement{
        static_cast<int>(ranks_.size()), static_cast<int>(slots_per_rank_), {}};
    for (const PackedRank& rank : ranks_) {
      std::vector<int32_t> slots = rank.experts;
      slots.resize(slots_per_rank_, -1);
      placement.slot_expert.insert(placement.slot_expert.end(), slots.begin(), slots.end());
    }
    return placement;
  }

 private:
  double Share(int expert) const { return counts_[expert] / replicas_[expert]; }

  static bool Lighter(const PackedRank& a, const PackedRank& b) {
    return std::make_tuple(a.load, a.experts.size()) < std::make_tuple(b.load, b.experts.size());
  }

  // The expert that is to get one replica more; -1: all stand on every rank.
  int MostLoaded() const {
    int most = -1;
    for (int expert = 0; expert < static_cast<int>(counts_.size()); ++expert) {
      if (replicas_[expert] == static_cast<int>(ranks_.size())) continue;
      if (most < 0 || Share(expert) > Share(most) ||
          (Share(expert) == Share(most) && replicas_[expert] < replicas_[most])) {
        most = expert;
      }
    }
    return most;
  }

  // Only ranks that hold `expert` have room. One of them takes an expert from a full rank, which
  // takes `expert`. There is such an expert: the full rank holds more experts, and not this one.
  void PlaceBySwap(int expert) {
    PackedRank* room = nullptr;
    for (PackedRank& rank : ranks_) {
      if (rank.experts.size() < slots_per_rank_ && (room == nullptr || Lighter(rank, *room))) {
        room = &rank;
      }
    }
    CHECK(room != nullptr);
    PackedRank* from = nullptr;
    size_t slot = 0;
    double best = 0;
    for (PackedRank& rank : ranks_) {
      if (rank.Holds(expert)) continue;
      for (size_t i = 0; i < rank.experts.size(); ++i) {
        const double moved = Share(rank.experts[i]);
        const double worst = std::max(room->load + moved, rank.load - moved + Share(expert));
        if (!room->Holds(rank.experts[i]) && (from == nullptr || worst < best)) {
          from = &rank;
          slot = i;
          best = worst;
        }
      }
    }
    CHECK(from != nullptr);
    const double moved = Share(from->experts[slot]);
    room->experts.push_back(from->experts[slot]);
    room->load += moved;
    from->experts[slot] = expert;
    from->load += Share(expert) - moved;
  }

  std::span<const double> counts_;  // [experts]
  std::vector<int> replicas_;       // [experts]
  std::vector<PackedRank> ranks_;
  size_t slots_per_rank_;
};

}  // namespace

LayerPlacement PlacementFromCounts(std::span<const double> counts, int ranks, int slots_per_rank) {
  CHECK(static_cast<size_t>(ranks) * slots_per_rank >= counts.size());
  Packing packing(counts, ranks, slots_per_rank);
  for (const int expert : packing.Replicate()) packing.Place(expert);
  return packing.Take();
}

}  // namespace ballast
