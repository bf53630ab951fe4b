#include "engine/moe/leveling.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "engine/moe/cost_parameters.h"
#include "engine/status.h"

namespace ballast {
namespace {

// Fewer units than this are none: what rounding leaves of a slot that was emptied.
constexpr double kNoUnits = 1e-9;
// Ranks below this share of the highest level add nothing to Height worth levelling for.
constexpr double kMatters = 0.95;

double Power64(double level) {
  for (int doubling = 0; doubling < 6; ++doubling) {
    level *= level;
  }
  return level;
}

}  // namespace

void Leveling::Start(const LayerPlacement& placement, size_t experts, std::span<const double> loads,
                     std::span<const int32_t> speed) {
  const size_t ranks = static_cast<size_t>(placement.ranks);
  const size_t count = loads.size() / experts;
  CHECK(count > 0 && loads.size() == count * experts);
  CHECK(speed.empty() || speed.size() == ranks);
  slots_per_rank_ = placement.slots_per_rank;
  slot_expert_ = placement.slot_expert;
  const size_t slots = slot_expert_.size();
  CHECK(slots == ranks * static_cast<size_t>(slots_per_rank_));
  speed_.assign(ranks, 1);
  double speeds = 0;
  for (size_t rank = 0; rank < ranks; ++rank) {
    speed_[rank] = speed.empty() ? kNominalSpeed : speed[rank];
    speeds += speed_[rank];
  }
  for (double& of_rank : speed_) {
    of_rank *= static_cast<double>(ranks) / speeds;
  }
  first_.assign(experts, -1);
  slot_rank_.resize(slots);
  next_.resize(slots);
  for (size_t slot = 0; slot < slots; ++slot) {
    slot_rank_[slot] = static_cast<int32_t>(slot) / slots_per_rank_;
    next_[slot] = static_cast<int32_t>(slot);
    if (slot_expert_[slot] >= 0) {
      Join(static_cast<int32_t>(slot));
    }
  }
  units_.assign(count * slots, 0);
  level_.assign(count * ranks, 0);
  from_slot_.resize(ranks);
  into_slot_.resize(ranks);
  for (size_t load = 0; load < count; ++load) {
    Spread(load, loads.subspan(load * experts, experts));
    Level(load);
  }
}

// Every expert's load in equal parts over its ranks.
void Leveling::Spread(size_t load, std::span<const double> of_experts) {
  double sum = 0;
  for (const double units : of_experts) {
    sum += units;
  }
  CHECK(sum > 0);
  for (size_t expert = 0; expert < of_experts.size(); ++expert) {
    CHECK(first_[expert] >= 0);
    const int32_t first = first_[expert];
    int copies = 1;
    for (int32_t slot = next_[first]; slot != first; slot = next_[slot]) {
      ++copies;
    }
    const double each = of_experts[expert] / sum * ranks() / copies;
    AddUnits(load, first, each);
    for (int32_t slot = next_[first]; slot != first; slot = next_[slot]) {
      AddUnits(load, slot, each);
    }
  }
}

void Leveling::Join(int32_t slot) {
  int32_t& first = first_[slot_expert_[slot]];
  if (first < 0) {
    first = slot;
    next_[slot] = slot;
    return;
  }
  next_[slot] = next_[first];
  next_[first] = slot;
}

void Leveling::Leave(int32_t slot) {
  int32_t before = slot;
  while (next_[before] != slot) {
    before = next_[before];
  }
  first_[slot_expert_[slot]] = before == slot ? -1 : before;
  next_[before] = next_[slot];
  next_[slot] = slot;
  slot_expert_[slot] = -1;
}

void Leveling::AddUnits(size_t load, int32_t slot, double units) {
  const int32_t rank = slot_rank_[slot];
  units_[load * slot_expert_.size() + static_cast<size_t>(slot)] += units;
  level_[load * speed_.size() + static_cast<size_t>(rank)] += units / speed_[rank];
}

void Leveling::Change(std::span<const SlotChange> changes) {
  CHECK(changes.size() <= kMaxChanges);
  std::array<int32_t, kMaxChanges> old{};
  for (size_t i = 0; i < changes.size(); ++i) {
    old[i] = slot_expert_[changes[i].slot];
    if (old[i] >= 0) {
      Leave(changes[i].slot);
    }
  }
  for (const SlotChange& change : changes) {
    const auto begin =
        slot_expert_.begin() + static_cast<ptrdiff_t>(slot_rank_[change.slot]) * slots_per_rank_;
    CHECK(std::find(begin, begin + slots_per_rank_, change.expert) == begin + slots_per_rank_);
    slot_expert_[change.slot] = change.expert;
    Join(change.slot);
  }
  for (size_t load = 0; load < loads(); ++load) {
    std::array<double, kMaxChanges> units{};
    for (size_t i = 0; i < changes.size(); ++i) {
      double& here = units_[load * slot_expert_.size() + static_cast<size_t>(changes[i].slot)];
      units[i] = here;
      AddUnits(load, changes[i].slot, -here);
      here = 0;
    }
    for (size_t i = 0; i < changes.size(); ++i) {
      if (old[i] >= 0) {
        CHECK(first_[old[i]] >= 0);
        AddUnits(load, LowestCopy(load, first_[old[i]]), units[i]);
      }
    }
    Level(load);
  }
}

int32_t Leveling::LowestCopy(size_t load, int32_t slot) const {
  const double* level = level_.data() + load * speed_.size();
  int32_t lowest = slot;
  for (int32_t other = next_[slot]; other != slot; other = next_[other]) {
    lowest = level[slot_rank_[other]] < level[slot_rank_[lowest]] ? other : lowest;
  }
  return lowest;
}

double Leveling::Highest() const {
  double sum = 0;
  for (size_t load = 0; load < loads(); ++load) {
    const std::span<const double> levels = LevelsOf(load);
    sum += *std::max_element(levels.begin(), levels.end());
  }
  return sum / static_cast<double>(loads());
}

double Leveling::Height() const {
  double sum = 0;
  for (size_t load = 0; load < loads(); ++load) {
    const std::span<const double> levels = LevelsOf(load);
    double of_load = 0;
    for (size_t rank = 0; rank < levels.size(); ++rank) {
      of_load += speed_[rank] * Power64(levels[rank]);
    }
    sum += std::pow(of_load / static_cast<double>(ranks()), 1.0 / 64);
  }
  return sum / static_cast<double>(loads());
}

void Leveling::Level(size_t load) {
  const double* level = level_.data() + load * speed_.size();
  done_.assign(speed_.size(), 0);
  double least = 1 + kLevelStep;
  // Each push empties a slot or brings two ranks together. The bound is far above what layers take;
  // an early end leaves a split that is less even, not a wrong one.
  for (size_t pushes = 0; pushes < 8 * speed_.size();) {
    int from = -1;
    for (int rank = 0; rank < ranks(); ++rank) {
      if (done_[rank] == 0 && level[rank] > least && (from < 0 || level[rank] > level[from])) {
        from = rank;
      }
    }
    if (from < 0) {
      return;
    }
    const int to = LowestReached(load, from);
    if (level[from] - level[to] > kLevelStep) {
      PushAlongPath(load, from, to);
      ++pushes;
      continue;
    }
    // What a rank reaches reaches nothing more: all of it is as level as it can be.
    for (const int32_t rank : queue_) {
      done_[rank] = 1;
    }
    least = std::max(least, kMatters * level[from]);
  }
}

// The lowest rank that load can be pushed to, along any number of replicas, by a shortest path;
// queue_ has all that are reached.
int Leveling::LowestReached(size_t load, int from) {
  const double* level = level_.data() + load * speed_.size();
  const double* units = units_.data() + load * slot_expert_.size();
  reached_.assign(speed_.size(), 0);
  queue_.assign(1, from);
  reached_[from] = 1;
  int lowest = from;
  for (size_t head = 0; head < queue_.size(); ++head) {
    const int32_t begin = queue_[head] * slots_per_rank_;
    for (int32_t slot = begin; slot < begin + slots_per_rank_; ++slot) {
      if (next_[slot] == slot || units[slot] <= kNoUnits) {
        continue;
      }
      for (int32_t other = next_[slot]; other != slot; other = next_[other]) {
        const int32_t rank = slot_rank_[other];
        if (reached_[rank] == 0) {
          reached_[rank] = 1;
          from_slot_[rank] = slot;
          into_slot_[rank] = other;
          queue_.push_back(rank);
          lowest = level[rank] < level[lowest] ? rank : lowest;
        }
      }
    }
  }
  return lowest;
}

void Leveling::PushAlongPath(size_t load, int from, int to) {
  const double* level = level_.data() + load * speed_.size();
  const double* all = units_.data() + load * slot_expert_.size();
  double units =
      (level[from] - level[to]) * speed_[from] * speed_[to] / (speed_[from] + speed_[to]);
  for (int rank = to; rank != from; rank = slot_rank_[from_slot_[rank]]) {
    units = std::min(units, all[from_slot_[rank]]);
  }
  for (int rank = to; rank != from; rank = slot_rank_[from_slot_[rank]]) {
    AddUnits(load, from_slot_[rank], -units);
    AddUnits(load, into_slot_[rank], units);
  }
}

}  // namespace ballast
