#include "engine/moe/spill.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <tuple>
#include <utility>

namespace ballast {
namespace {

// Caps to try, in 1024ths of the free-placement bound. LLEP measured 7.5, 3.1 and 1.2 imports a
// layer at 1.0, 1.1 and 1.3.
constexpr std::array<int64_t, 6> kAlphas = {1024, 1075, 1126, 1229, 1331, 1536};
constexpr int kRefinements = 4;  // halvings between the bound and the best value after that

// Tiles of one slot's expert that go to a rank.
struct Chunk {
  int32_t slot = -1;
  int32_t to = -1;
  int64_t tiles = 0;
  int64_t relief = 0;  // of the sender's excess
  int64_t spare = 0;   // room the receiver has left
  bool far = false;    // on another node
};

class Spilling {
 public:
  Spilling(const Replicas& replicas, const CostParameters& costs, SpillScratch& scratch,
           const SpillPlan& start)
      : replicas_(replicas), costs_(costs), s_(scratch), start_(start), trial_(scratch.trial) {}

  // Leaves in trial what comes of the cap.
  void Try(int64_t cap) {
    Start();
    int steps = MaxSteps();
    for (int rank = 0; rank < replicas_.ranks; ++rank) {
      while (Time(rank) > cap && steps-- > 0) {
        const Chunk chunk = BestChunk(rank, cap);
        if (chunk.slot < 0) {
          break;
        }
        Move(rank, chunk);
      }
    }
    Finish();
  }

 private:
  // Every chunk fills a deficit, ends a surplus or empties a slot.
  int MaxSteps() const { return 2 * replicas_.ranks + replicas_.slots(); }

  int64_t Time(int32_t rank) const {
    return TimeOfLoad(s_.load[rank], SpeedOf(costs_, rank)) + s_.extra[rank];
  }

  void Start() {
    const size_t ranks = static_cast<size_t>(replicas_.ranks);
    trial_.slot_rows.assign(start_.slot_rows.begin(), start_.slot_rows.end());
    trial_.spills.clear();
    trial_.spills.reserve(static_cast<size_t>(MaxSteps()));
    s_.load.assign(ranks, 0);
    s_.extra.assign(ranks, 0);
    s_.imports.assign(ranks, 0);
    for (int slot = 0; slot < replicas_.slots(); ++slot) {
      s_.load[replicas_.slot_rank[slot]] += CostOfRows(costs_, trial_.slot_rows[slot]);
    }
  }

  Spill* FindSpill(int32_t expert, int32_t to) {
    for (Spill& spill : trial_.spills) {
      if (spill.expert == expert && spill.to == to) {
        return &spill;
      }
    }
    return nullptr;
  }

  bool Holds(int32_t rank, int32_t expert) const {
    const std::span<const int32_t> slots = replicas_.SlotsOf(expert);
    return std::any_of(slots.begin(), slots.end(),
                       [&](int32_t slot) { return replicas_.slot_rank[slot] == rank; });
  }

  // Cost units of `rank` over the cap, once it also spends `extra` time.
  int64_t Excess(int32_t rank, int64_t cap, int64_t extra) const {
    const int64_t left = std::max<int64_t>(0, cap - s_.extra[rank] - extra);
    return s_.load[rank] - LoadInTime(left, SpeedOf(costs_, rank));
  }

  Chunk BestChunk(int32_t rank, int64_t cap) {
    const int64_t excess = Excess(rank, cap, 0);
    const int64_t exporting = Excess(rank, cap, costs_.export_cost);
    Chunk best;
    for (int32_t to = 0; to < replicas_.ranks; ++to) {
      if (to == rank || Time(to) >= cap) {
        continue;
      }
      const int64_t room = -Excess(to, cap, costs_.import_cost) - costs_.floor_cost;
      const bool may_import = s_.imports[to] < costs_.max_imports && room >= costs_.tile_cost;
      if (!may_import && s_.imports[to] == 0) {
        continue;
      }
      for (int i = 0; i < replicas_.slots_per_rank; ++i) {
        const int32_t slot = rank * replicas_.slots_per_rank + i;
        if (trial_.slot_rows[slot] == 0) {
          continue;
        }
        if (s_.imports[to] > 0 && FindSpill(replicas_.slot_expert[slot], to) != nullptr) {
          Consider({.slot = slot, .to = to}, excess, -Excess(to, cap, 0), best);
        } else if (may_import) {
          Consider({.slot = slot, .to = to}, exporting, room, best);
        }
      }
    }
    return best;
  }

  // Fills in what the slot may give to a rank with so much room, and takes that if it beats `best`:
  // most relief, near, least room left, fewest tiles.
  void Consider(Chunk chunk, int64_t excess, int64_t room, Chunk& best) const {
    const int32_t slot = chunk.slot;
    const int64_t tile = costs_.tile_cost;
    if (room < tile || excess <= 0) {
      return;
    }
    const int64_t here = TilesOf(trial_.slot_rows[slot], costs_.tile_rows);
    // Whole where that moves no more than the floor that a stub would leave behind.
    const bool whole = here * tile <= excess + costs_.floor_cost;
    if (whole && here * tile <= room) {
      chunk.tiles = here;
      chunk.relief = std::min(here * tile + costs_.floor_cost, excess);
    } else {
      // No tile count gives more relief than min(excess, room).
      if (std::min(excess, room) < best.relief) {
        return;
      }
      chunk.tiles = std::min({here, (excess + tile - 1) / tile, room / tile});
      chunk.relief = std::min(chunk.tiles * tile, excess);
    }
    chunk.spare = room - chunk.tiles * tile;
    chunk.far = !replicas_.SameNode(replicas_.slot_rank[slot], chunk.to);
    const auto key = [](const Chunk& c) { return std::tuple(-c.relief, c.far, c.spare, c.tiles); };
    if ((best.slot < 0 || key(chunk) < key(best)) &&
        !Holds(chunk.to, replicas_.slot_expert[slot])) {
      best = chunk;
    }
  }

  // The holder that sends: near the receiver, then the one with most time to spare.
  int32_t Sender(int32_t expert, int32_t to) const {
    int32_t best = -1;
    for (const int32_t slot : replicas_.SlotsOf(expert)) {
      const int32_t rank = replicas_.slot_rank[slot];
      const auto key = [&](int32_t r) { return std::pair(!replicas_.SameNode(r, to), Time(r)); };
      if (best < 0 || key(rank) < key(best)) {
        best = rank;
      }
    }
    return best;
  }

  void Move(int32_t rank, const Chunk& chunk) {
    const int32_t expert = replicas_.slot_expert[chunk.slot];
    int32_t& here = trial_.slot_rows[chunk.slot];
    const int32_t rows =
        static_cast<int32_t>(std::min<int64_t>(here, chunk.tiles * costs_.tile_rows));
    Spill* spill = FindSpill(expert, chunk.to);
    if (spill == nullptr) {
      const int32_t from = Sender(expert, chunk.to);
      s_.extra[from] += costs_.export_cost;
      s_.extra[chunk.to] += costs_.import_cost;
      ++s_.imports[chunk.to];
      trial_.spills.push_back({expert, from, chunk.to, 0});
      spill = &trial_.spills.back();
    }
    s_.load[rank] -= CostOfRows(costs_, here);
    s_.load[chunk.to] -= CostOfRows(costs_, spill->rows);
    here -= rows;
    spill->rows += rows;
    s_.load[rank] += CostOfRows(costs_, here);
    s_.load[chunk.to] += CostOfRows(costs_, spill->rows);
  }

  void Finish() {
    trial_.value = 0;
    trial_.rank_time.resize(static_cast<size_t>(replicas_.ranks));
    for (int rank = 0; rank < replicas_.ranks; ++rank) {
      trial_.rank_time[rank] = Time(rank);
      trial_.value = std::max(trial_.value, trial_.rank_time[rank]);
    }
  }

  const Replicas& replicas_;
  const CostParameters& costs_;
  SpillScratch& s_;
  const SpillPlan& start_;
  SpillPlan& trial_;
};

}  // namespace

void PlanSpills(const Replicas& replicas, const CostParameters& costs, int64_t free_bound,
                SpillScratch& scratch, SpillPlan& plan) {
  if (costs.max_imports == 0 || plan.value - free_bound <= plan.value / kLeastSpillGain) {
    return;
  }
  Spilling spilling(replicas, costs, scratch, plan);
  SpillPlan& best = scratch.best;
  best.value = plan.value - plan.value / kLeastSpillGain;
  best.spills.clear();
  const auto try_cap = [&](int64_t cap) {
    spilling.Try(cap);
    const bool fewer = scratch.trial.spills.size() < best.spills.size();
    if (scratch.trial.value < best.value || (scratch.trial.value == best.value && fewer)) {
      std::swap(scratch.trial, best);
    }
  };
  for (const int64_t alpha : kAlphas) {
    const int64_t cap = free_bound / 1024 * alpha + free_bound % 1024 * alpha / 1024;
    if (cap < plan.value) {
      try_cap(cap);
    }
  }
  int64_t low = free_bound;
  for (int i = 0; i < kRefinements && low + 1 < best.value; ++i) {
    const int64_t cap = low + (best.value - low) / 2;
    const int64_t value = best.value;
    try_cap(cap);
    low = best.value < value ? low : cap;
  }
  if (!best.spills.empty()) {
    std::sort(best.spills.begin(), best.spills.end(), [](const Spill& a, const Spill& b) {
      return std::pair(a.to, a.expert) < std::pair(b.to, b.expert);
    });
    std::swap(plan, best);
  }
}

void ForceSpills(const Replicas& replicas, int32_t max_imports, std::vector<int32_t>& slot_rows,
                 std::vector<Spill>& spills) {
  for (const Spill& spill : spills) {
    for (const int32_t slot : replicas.SlotsOf(spill.expert)) {
      if (replicas.slot_rank[static_cast<size_t>(slot)] == spill.from) {
        slot_rows[static_cast<size_t>(slot)] += spill.rows;
      }
    }
  }
  spills.clear();
  const auto imports = [&](int32_t rank) {
    return std::count_if(spills.begin(), spills.end(),
                         [&](const Spill& s) { return s.to == rank; });
  };
  const auto may_take = [&](int32_t rank, int32_t expert) {
    for (const int32_t slot : replicas.SlotsOf(expert)) {
      if (replicas.slot_rank[static_cast<size_t>(slot)] == rank) return false;
    }
    return imports(rank) < std::max(1, max_imports) &&
           std::none_of(spills.begin(), spills.end(),
                        [&](const Spill& s) { return s.to == rank && s.expert == expert; });
  };
  for (int32_t from = 0; from < replicas.ranks; ++from) {
    const auto first = slot_rows.begin() + from * replicas.slots_per_rank;
    const auto fullest = std::max_element(first, first + replicas.slots_per_rank);
    if (replicas.slots_per_rank == 0 || *fullest == 0) continue;
    const int32_t expert = replicas.slot_expert[static_cast<size_t>(fullest - slot_rows.begin())];
    for (int32_t step = 1; step < replicas.ranks; ++step) {
      const int32_t to = (from + step) % replicas.ranks;
      if (!may_take(to, expert)) continue;
      const int32_t rows = (*fullest + 1) / 2;
      spills.push_back({expert, from, to, rows});
      *fullest -= rows;
      break;
    }
  }
  std::sort(spills.begin(), spills.end(), [](const Spill& a, const Spill& b) {
    return std::pair(a.to, a.expert) < std::pair(b.to, b.expert);
  });
}

}  // namespace ballast
