// A layer's loads, divisible over the ranks that hold each expert, as evenly as its placement
// allows: what a placement is worth before any step's rows are known. Several loads at once, since
// a placement that suits the mean step alone has no room left for the others.
//
// A rank's level is its load over its speed, scaled so that 1 is the mean: loads sum to the sum of
// the speeds. A split is levelled by pushing load along shortest paths of replicas from the highest
// ranks to the lowest that they reach, until no path leads down by more than kLevelStep. Ranks that
// are below the mean, or well below one that can not be lowered, are left as they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/placement.h"

namespace ballast {

inline constexpr double kLevelStep = 0.0005;
inline constexpr size_t kMaxChanges = 4;

// A slot that gets another expert.
struct SlotChange {
  int32_t slot = 0;
  int32_t expert = 0;
};

// A plain value: copies are how changes are tried. One thread at a time.
class Leveling {
 public:
  // loads [any number, experts], each with a positive sum; speed [ranks] or empty: all alike.
  // Every expert must stand somewhere (checked).
  void Start(const LayerPlacement& placement, size_t experts, std::span<const double> loads,
             std::span<const int32_t> speed);

  // Up to kMaxChanges at once, then levels. Afterwards every expert must still stand somewhere and
  // none twice on a rank (checked).
  void Change(std::span<const SlotChange> changes);

  size_t loads() const { return level_.size() / speed_.size(); }
  int ranks() const { return static_cast<int>(speed_.size()); }
  int slots() const { return static_cast<int>(slot_expert_.size()); }
  int slots_per_rank() const { return slots_per_rank_; }
  const std::vector<int32_t>& slot_expert() const { return slot_expert_; }
  int RankOf(int slot) const { return slot_rank_[slot]; }
  bool IsShared(int slot) const { return next_[slot] != slot; }
  // The next slot of the same expert, round and round.
  int NextCopy(int slot) const { return next_[slot]; }
  double SpeedOf(int rank) const { return speed_[rank]; }  // sums to the number of ranks

  // Under one of the loads.
  std::span<const double> UnitsOf(size_t load) const { return Part(units_, load, slots()); }
  std::span<const double> LevelsOf(size_t load) const { return Part(level_, load, ranks()); }

  // The highest level, the mean over loads.
  double Highest() const;
  // The 64th-power mean of the levels, the mean over loads: near the highest level, and falls when
  // any high rank does.
  double Height() const;

 private:
  static std::span<const double> Part(const std::vector<double>& of, size_t load, int size) {
    return std::span(of).subspan(load * static_cast<size_t>(size), static_cast<size_t>(size));
  }
  void Spread(size_t load, std::span<const double> of_experts);
  void Join(int32_t slot);
  void Leave(int32_t slot);
  void AddUnits(size_t load, int32_t slot, double units);
  int32_t LowestCopy(size_t load, int32_t slot) const;
  void Level(size_t load);
  int LowestReached(size_t load, int from);
  void PushAlongPath(size_t load, int from, int to);

  int slots_per_rank_ = 0;
  std::vector<int32_t> slot_expert_;  // [slots] -1: empty
  std::vector<int32_t> slot_rank_;    // [slots]
  std::vector<int32_t> next_;         // [slots]
  std::vector<int32_t> first_;        // [experts] one of its slots
  std::vector<double> speed_;         // [ranks]
  std::vector<double> units_;         // [loads, slots] load that runs there
  std::vector<double> level_;         // [loads, ranks]
  // The search for a way down.
  std::vector<int32_t> from_slot_;  // [ranks]
  std::vector<int32_t> into_slot_;  // [ranks]
  std::vector<int32_t> queue_;
  std::vector<uint8_t> reached_;  // [ranks]
  std::vector<uint8_t> done_;     // [ranks]
};

}  // namespace ballast
