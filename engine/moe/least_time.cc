#include "engine/moe/least_time.h"

#include <algorithm>
#include <cstddef>

#include "engine/status.h"

namespace ballast {
namespace {

int32_t SpeedOf(const FlowCosts& costs, int rank) {
  return costs.speed.empty() ? kNominalSpeed : costs.speed[rank];
}

// The least time in which `ranks` together have capacity for `units`. `time` is known to be at or
// below it.
int64_t LeastTimeOfCut(const FlowCosts& costs, std::span<const int32_t> ranks, int64_t units,
                       int64_t time, std::vector<int64_t>& taken) {
  int64_t speeds = 0;
  bool alike = true;
  for (const int32_t rank : ranks) {
    speeds += SpeedOf(costs, rank);
    alike = alike && SpeedOf(costs, rank) == SpeedOf(costs, ranks[0]);
  }
  const int64_t count = static_cast<int64_t>(ranks.size());
  if (alike) {
    return std::max(time, TimeOfUnits(costs, ranks[0], (units + count - 1) / count));
  }
  // In d units of time every rank gains at most its share of d and one more for rounding, so steps
  // of the size below stay under the answer; the last few units are then taken one by one.
  int64_t sum = 0;
  for (int64_t step = 1; step > 0; time += step) {
    sum = 0;
    for (const int32_t rank : ranks) {
      sum += UnitsInTime(costs, rank, time);
    }
    const int64_t missing = units - 1 - sum - count;
    step = missing <= 0 ? 0 : missing * costs.unit_cost * kNominalSpeed / speeds;
  }
  taken.clear();
  for (const int32_t rank : ranks) {
    taken.push_back(UnitsInTime(costs, rank, time));
  }
  while (sum < units) {
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < ranks.size(); ++i) {
      next = std::min(next, TimeOfUnits(costs, ranks[i], taken[i] + 1));
    }
    time = next;
    for (size_t i = 0; i < ranks.size(); ++i) {
      if (TimeOfUnits(costs, ranks[i], taken[i] + 1) <= time) {
        ++taken[i];
        ++sum;
      }
    }
  }
  return time;
}

// The search for one answer. Ranks are nodes; an arc leads from a rank to another that holds an
// expert of which the first has units.
class Search {
 public:
  Search(const Replicas& replicas, const FlowCosts& costs, std::span<const int64_t> keep,
         std::span<int64_t> units, FlowScratch& scratch, LeastTime& out)
      : replicas_(replicas), costs_(costs), keep_(keep), units_(units), s_(scratch), out_(out) {}

  void Run() {
    StartFromBelow();
    const bool moves = AnyOverfull();
    if (!moves) {
      return;
    }
    s_.start.assign(units_.begin(), units_.end());
    if (Drain()) {
      // Units were moved at times that proved too short. Again at the right one, so that none is
      // moved that need not.
      std::copy(s_.start.begin(), s_.start.end(), units_.begin());
      SumLoads();
      CHECK(!Drain());
    }
  }

 private:
  void SumLoads() {
    s_.load.assign(static_cast<size_t>(replicas_.ranks), 0);
    for (int slot = 0; slot < replicas_.slots(); ++slot) {
      s_.load[replicas_.slot_rank[slot]] += units_[slot];
    }
  }

  void SetTime(int64_t time) {
    out_.time = time;
    s_.cap.resize(static_cast<size_t>(replicas_.ranks));
    for (int rank = 0; rank < replicas_.ranks; ++rank) {
      s_.cap[rank] = UnitsInTime(costs_, rank, time);
    }
  }

  // The cuts that need no search: each rank with the experts that stand there alone, and all ranks
  // that hold anything with demand.
  void StartFromBelow() {
    SumLoads();
    s_.queue.clear();
    s_.reached.assign(static_cast<size_t>(replicas_.ranks), 0);
    int64_t all = 0;
    for (int rank = 0; rank < replicas_.ranks; ++rank) {
      all += s_.load[rank];
    }
    out_.cut_ranks.clear();
    SetTime(0);
    if (all == 0) {
      return;
    }
    int64_t time = 0;
    int busiest = 0;
    for (int rank = 0; rank < replicas_.ranks; ++rank) {
      int64_t alone = s_.load[rank];
      for (const int32_t slot : replicas_.SharedSlotsOf(rank)) {
        alone -= units_[slot];
      }
      const int64_t rank_time = TimeOfUnits(costs_, rank, alone);
      if (rank_time > time) {
        time = rank_time;
        busiest = rank;
      }
    }
    for (int rank = 0; rank < replicas_.ranks; ++rank) {
      s_.reached[rank] = s_.load[rank] > 0 ? 1 : 0;
    }
    for (const int32_t expert : replicas_.shared) {
      const std::span<const int32_t> slots = replicas_.SlotsOf(expert);
      int64_t demand = 0;
      for (const int32_t slot : slots) {
        demand += units_[slot];
      }
      for (const int32_t slot : slots) {
        s_.reached[replicas_.slot_rank[slot]] |= demand > 0 ? 1 : 0;
      }
    }
    for (int rank = 0; rank < replicas_.ranks; ++rank) {
      if (s_.reached[rank] != 0) {
        s_.queue.push_back(rank);
      }
    }
    const int64_t even = LeastTimeOfCut(costs_, s_.queue, all, 0, s_.taken);
    if (even >= time) {
      out_.cut_ranks.assign(s_.queue.begin(), s_.queue.end());
      SetTime(even);
    } else {
      out_.cut_ranks.assign(1, busiest);
      SetTime(time);
    }
  }

  bool AnyOverfull() const {
    for (int rank = 0; rank < replicas_.ranks; ++rank) {
      if (s_.load[rank] > s_.cap[rank]) {
        return true;
      }
    }
    return false;
  }

  // Empties every overfull rank down to its capacity, raising the time where that is impossible.
  // Returns whether the time rose.
  bool Drain() {
    bool rose = false;
    for (int rank = 0; rank < replicas_.ranks; ++rank) {
      while (s_.load[rank] > s_.cap[rank]) {
        const bool moved = (!keep_.empty() && Push(rank, true)) || Push(rank, false);
        if (!moved) {
          RaiseTime();
          rose = true;
        }
      }
    }
    return rose;
  }

  // The ranks reached are all full, one is overfull, and they hold every replica of every expert
  // that has units there.
  void RaiseTime() {
    int64_t units = 0;
    for (const int32_t rank : s_.queue) {
      units += s_.load[rank];
    }
    out_.cut_ranks.assign(s_.queue.begin(), s_.queue.end());
    std::sort(out_.cut_ranks.begin(), out_.cut_ranks.end());
    SetTime(LeastTimeOfCut(costs_, out_.cut_ranks, units, out_.time, s_.taken));
  }

  // Units that may leave a slot.
  int64_t Movable(int32_t slot, bool keeping) const {
    return keeping ? units_[slot] - keep_[slot] : units_[slot];
  }

  // Moves units from an overfull rank along a shortest path to one with room; false if there is
  // none, and then queue has the ranks that were reached.
  bool Push(int32_t from, bool keeping) {
    std::fill(s_.reached.begin(), s_.reached.end(), uint8_t{0});
    s_.from_slot.resize(s_.load.size());
    s_.into_slot.resize(s_.load.size());
    s_.queue.assign(1, from);
    s_.reached[from] = 1;
    for (size_t head = 0; head < s_.queue.size(); ++head) {
      for (const int32_t slot : replicas_.SharedSlotsOf(s_.queue[head])) {
        if (Movable(slot, keeping) <= 0) {
          continue;
        }
        for (const int32_t other : replicas_.SlotsOf(replicas_.slot_expert[slot])) {
          const int32_t rank = replicas_.slot_rank[other];
          if (s_.reached[rank] != 0) {
            continue;
          }
          s_.reached[rank] = 1;
          s_.from_slot[rank] = slot;
          s_.into_slot[rank] = other;
          if (s_.load[rank] < s_.cap[rank]) {
            MoveAlongPath(from, rank, keeping);
            return true;
          }
          s_.queue.push_back(rank);
        }
      }
    }
    return false;
  }

  void MoveAlongPath(int32_t from, int32_t to, bool keeping) {
    int64_t amount = std::min(s_.load[from] - s_.cap[from], s_.cap[to] - s_.load[to]);
    for (int32_t rank = to; rank != from; rank = replicas_.slot_rank[s_.from_slot[rank]]) {
      amount = std::min(amount, Movable(s_.from_slot[rank], keeping));
    }
    for (int32_t rank = to; rank != from; rank = replicas_.slot_rank[s_.from_slot[rank]]) {
      units_[s_.from_slot[rank]] -= amount;
      units_[s_.into_slot[rank]] += amount;
    }
    s_.load[from] -= amount;
    s_.load[to] += amount;
  }

  const Replicas& replicas_;
  const FlowCosts& costs_;
  std::span<const int64_t> keep_;
  std::span<int64_t> units_;
  FlowScratch& s_;
  LeastTime& out_;
};

}  // namespace

int64_t UnitsInTime(const FlowCosts& costs, int rank, int64_t time) {
  return LoadInTime(time, SpeedOf(costs, rank)) / costs.unit_cost;
}

int64_t TimeOfUnits(const FlowCosts& costs, int rank, int64_t units) {
  return TimeOfLoad(units * costs.unit_cost, SpeedOf(costs, rank));
}

void FindLeastTime(const Replicas& replicas, const FlowCosts& costs, std::span<const int64_t> keep,
                   std::span<int64_t> units, FlowScratch& scratch, LeastTime& out) {
  Search(replicas, costs, keep, units, scratch, out).Run();
}

}  // namespace ballast
