// One layer's load, divisible over the ranks that hold each expert, as evenly as its placement
// allows: what a placement is worth before any step's rows are known.
//
// A rank's level is its load over its speed, scaled so that 1 is the mean: loads sum to the sum of
// the speeds. The split is levelled by pushing load along shortest paths of replicas from ranks
// above the mean to the lowest rank they reach, until no path leads down by more than kLevelStep.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/placement.h"

namespace ballast {

inline constexpr double kLevelStep = 0.0005;

// A slot that gets another expert; the expert must not stand on the slot's rank.
struct SlotChange {
  int32_t slot = 0;
  int32_t expert = 0;
};

// A plain value: copies are how changes are tried. One thread at a time.
class Leveling {
 public:
  // load [experts], with a positive sum; speed [ranks] or empty.
  void Start(const LayerPlacement& placement, std::span<const int64_t> load,
             std::span<const int32_t> speed);

  // All changes at once, then levels. Every expert must still stand somewhere.
  void Change(std::span<const SlotChange> changes);

  int ranks() const { return static_cast<int>(level_.size()); }
  int slots() const { return static_cast<int>(slot_expert_.size()); }
  int slots_per_rank() const { return slots_per_rank_; }
  int32_t ExpertOf(int slot) const { return slot_expert_[slot]; }  // -1: empty
  int RankOf(int slot) const { return slot_rank_[slot]; }
  bool IsShared(int slot) const { return next_[slot] != slot; }
  // The next slot of the same expert, round and round.
  int NextCopy(int slot) const { return next_[slot]; }
  double LoadOf(int slot) const { return units_[slot]; }
  double SpeedOf(int rank) const { return speed_[rank]; }
  double LevelOf(int rank) const { return level_[rank]; }
  bool Holds(int rank, int expert) const;

  double Highest() const;
  // Between the mean and the highest level, and falls when any high rank does: the eighth-power
  // mean of the levels.
  double Height() const;

  const std::vector<int32_t>& slot_expert() const { return slot_expert_; }

 private:
  void Level();
  bool PushDown(int from);
  void PushAlongPath(int from, int to);
  void SetLevel(int rank);

  int slots_per_rank_ = 0;
  std::vector<int32_t> slot_expert_;  // [slots]
  std::vector<int32_t> slot_rank_;    // [slots]
  std::vector<int32_t> next_;         // [slots]
  std::vector<double> units_;         // [slots] load that runs here
  std::vector<double> speed_;         // [ranks] sums to the number of ranks
  std::vector<double> load_;          // [ranks]
  std::vector<double> level_;         // [ranks]
  std::vector<int32_t> first_;        // [experts] one of its slots
  // The search for a way down.
  std::vector<int32_t> from_slot_;  // [ranks]
  std::vector<int32_t> into_slot_;  // [ranks]
  std::vector<int32_t> queue_;
  std::vector<uint8_t> reached_;  // [ranks]
};

}  // namespace ballast
