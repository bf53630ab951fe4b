#include "engine/moe/assignment.h"

#include <algorithm>
#include <cstddef>

#include "engine/moe/bounds.h"
#include "engine/status.h"

namespace ballast {
namespace {

// The least that an expert with rows costs a rank.
int64_t PieceCost(const CostParameters& costs) {
  return int64_t{costs.floor_cost} + costs.tile_cost;
}

// However an expert's tiles are divided, its parts cost at least this many whole pieces, each part
// rounded down: a part of one piece has at most ceil(piece / tile_cost) tiles, and a part of j
// pieces at most j times as many.
int64_t PiecesOf(const CostParameters& costs, int64_t tiles) {
  const int64_t most = (PieceCost(costs) + costs.tile_cost - 1) / costs.tile_cost;
  return (tiles + most - 1) / most;
}

// One call's view of its arguments.
class Assigning {
 public:
  Assigning(std::span<const int32_t> rows, const Replicas& replicas, const CostParameters& costs,
            AssignScratch& scratch, Assignment& out)
      : rows_(rows), replicas_(replicas), costs_(costs), s_(scratch), out_(out) {}

  void Run() {
    const size_t slots = static_cast<size_t>(replicas_.slots());
    CHECK(rows_.size() == static_cast<size_t>(replicas_.ranks) * replicas_.experts);
    SumRows();
    PlacePlainly();
    out_.slot_rows.assign(s_.plain.begin(), s_.plain.end());
    out_.spills.clear();
    out_.bound = 0;
    out_.bound_kind = BoundKind::kNone;
    out_.bound_experts.clear();
    out_.plain_value = TimeRanks();
    if (costs_.mode != BalanceMode::kOff) {
      s_.units.resize(slots);
      s_.keep.resize(slots);
      s_.tiles.resize(slots);
      PlainTiles();
      if (costs_.floor_cost == 0) {
        AssignExactly();
      } else {
        AssignWithFloor();
      }
    }
    out_.assign_value = TimeRanks();
    out_.value = out_.assign_value;
    if (costs_.mode == BalanceMode::kSpill) {
      AddSpills();
    }
  }

 private:
  void SumRows() {
    const size_t experts = static_cast<size_t>(replicas_.experts);
    s_.expert_rows.assign(rows_.begin(), rows_.begin() + static_cast<ptrdiff_t>(experts));
    int32_t* sum = s_.expert_rows.data();
    for (size_t begin = experts; begin < rows_.size(); begin += experts) {
      const int32_t* row = rows_.data() + begin;
      for (size_t expert = 0; expert < experts; ++expert) {
        sum[expert] += row[expert];
      }
    }
    int64_t load = 0;
    for (size_t expert = 0; expert < experts; ++expert) {
      load += CostOfRows(costs_, sum[expert]);
    }
    CHECK(load <= kMaxLoad);
  }

  void PlacePlainly() {
    s_.plain.assign(static_cast<size_t>(replicas_.slots()), 0);
    for (int expert = 0; expert < replicas_.experts; ++expert) {
      const int32_t first = replicas_.begin[expert];
      const int32_t count = replicas_.begin[expert + 1] - first;
      CHECK(count > 0 || s_.expert_rows[expert] == 0);
      if (count == 1) {
        s_.plain[replicas_.slot[first]] = s_.expert_rows[expert];
      }
    }
    const int32_t* plain_slot = replicas_.plain_slot.data();
    for (int source = 0; source < replicas_.ranks; ++source) {
      const int32_t* row = rows_.data() + static_cast<ptrdiff_t>(source) * replicas_.experts;
      for (const int32_t expert : replicas_.shared) {
        s_.plain[*plain_slot++] += row[expert];
      }
    }
  }

  // Fills rank_time from slot_rows and returns its maximum.
  int64_t TimeRanks() {
    out_.rank_time.resize(static_cast<size_t>(replicas_.ranks));
    int64_t value = 0;
    const int32_t* rows = out_.slot_rows.data();
    for (int rank = 0; rank < replicas_.ranks; ++rank) {
      int64_t load = 0;
      for (int slot = 0; slot < replicas_.slots_per_rank; ++slot) {
        load += CostOfRows(costs_, *rows++);
      }
      out_.rank_time[rank] = TimeOfLoad(load, SpeedOf(costs_, rank));
      value = std::max(value, out_.rank_time[rank]);
    }
    return value;
  }

  // tiles: the expert's tiles shared out like its plain rows; what rounding down leaves goes to the
  // largest remainders. keep: tiles with rows that are at home.
  void PlainTiles() {
    for (int slot = 0; slot < replicas_.slots(); ++slot) {
      s_.tiles[slot] = TilesOf(s_.plain[slot], costs_.tile_rows);
    }
    for (const int32_t expert : replicas_.shared) {
      const std::span<const int32_t> slots = replicas_.SlotsOf(expert);
      int64_t over = -TilesOf(s_.expert_rows[expert], costs_.tile_rows);
      for (const int32_t slot : slots) {
        const int64_t local = rows_[static_cast<size_t>(replicas_.slot_rank[slot]) *
                                        static_cast<size_t>(replicas_.experts) +
                                    static_cast<size_t>(expert)];
        s_.keep[slot] = TilesOf(local, costs_.tile_rows);
        over += s_.tiles[slot];
      }
      for (; over > 0; --over) {
        --s_.tiles[EmptiestTile(slots)];
      }
    }
  }

  // The slot whose last tile has the fewest rows; the last such slot.
  int32_t EmptiestTile(std::span<const int32_t> slots) const {
    int32_t emptiest = -1;
    int64_t fewest = costs_.tile_rows;
    for (const int32_t slot : slots) {
      const int64_t last = s_.plain[slot] - (s_.tiles[slot] - 1) * costs_.tile_rows;
      if (s_.tiles[slot] > 0 && last > 0 && last <= fewest) {
        fewest = last;
        emptiest = slot;
      }
    }
    return emptiest;
  }

  // Full tiles, and the one that is not full where it takes the fewest rows from home.
  void RowsFromTiles() {
    for (const int32_t expert : replicas_.shared) {
      int64_t unfilled = -s_.expert_rows[expert];
      int32_t where = -1;
      int64_t most = INT64_MIN;
      for (const int32_t slot : replicas_.SlotsOf(expert)) {
        const int64_t full = s_.tiles[slot] * costs_.tile_rows;
        const int64_t local = rows_[static_cast<size_t>(replicas_.slot_rank[slot]) *
                                        static_cast<size_t>(replicas_.experts) +
                                    static_cast<size_t>(expert)];
        unfilled += full;
        if (full > 0 && full - local >= most) {
          most = full - local;
          where = slot;
        }
        out_.slot_rows[slot] = static_cast<int32_t>(full);
      }
      if (unfilled > 0) {
        out_.slot_rows[where] -= static_cast<int32_t>(unfilled);
      }
    }
  }

  void TakeBound(const LeastTime& cut, BoundKind kind) {
    if (cut.time <= out_.bound) {
      return;
    }
    out_.bound = cut.time;
    out_.bound_kind = kind;
    s_.flow.reached.assign(static_cast<size_t>(replicas_.ranks), 0);
    for (const int32_t rank : cut.cut_ranks) {
      s_.flow.reached[rank] = 1;
    }
    out_.bound_experts.clear();
    for (int expert = 0; expert < replicas_.experts; ++expert) {
      const std::span<const int32_t> slots = replicas_.SlotsOf(expert);
      const bool inside = std::all_of(slots.begin(), slots.end(), [this](int32_t slot) {
        return s_.flow.reached[replicas_.slot_rank[slot]] != 0;
      });
      if (inside && s_.expert_rows[expert] > 0) {
        out_.bound_experts.push_back(expert);
      }
    }
  }

  void AssignExactly() {
    FindLeastTime(replicas_, {costs_.tile_cost, costs_.speed}, s_.keep, s_.tiles, s_.flow, s_.cut);
    TakeBound(s_.cut, BoundKind::kTiles);
    RowsFromTiles();
  }

  // Every expert's tiles where most of its plain rows are.
  void Gather() {
    for (const int32_t expert : replicas_.shared) {
      const std::span<const int32_t> slots = replicas_.SlotsOf(expert);
      int32_t home = slots[0];
      int64_t all = 0;
      for (const int32_t slot : slots) {
        home = s_.plain[slot] > s_.plain[home] ? slot : home;
        all += s_.tiles[slot];
        s_.tiles[slot] = 0;
      }
      s_.tiles[home] = all;
    }
  }

  void AssignWithFloor() {
    Gather();
    for (size_t slot = 0; slot < s_.tiles.size(); ++slot) {
      s_.units[slot] =
          s_.tiles[slot] == 0 ? 0 : costs_.floor_cost + s_.tiles[slot] * costs_.tile_cost;
    }
    FindLeastTime(replicas_, {1, costs_.speed}, {}, s_.units, s_.flow, s_.cut);
    TakeBound(s_.cut, BoundKind::kFloors);
    for (size_t slot = 0; slot < s_.tiles.size(); ++slot) {
      s_.units[slot] = PiecesOf(costs_, s_.tiles[slot]);
    }
    FindLeastTime(replicas_, {PieceCost(costs_), costs_.speed}, {}, s_.units, s_.flow, s_.cut);
    TakeBound(s_.cut, BoundKind::kPieces);
    const int64_t value = RoundToTiles(replicas_, costs_, out_.bound, s_.tiles, s_.rounding);
    if (value < out_.plain_value) {
      RowsFromTiles();
    }
  }

  // The plan's vectors trade places with the assignment's, so nothing is copied.
  void AddSpills() {
    const auto trade = [this] {
      s_.plan.slot_rows.swap(out_.slot_rows);
      s_.plan.spills.swap(out_.spills);
      s_.plan.rank_time.swap(out_.rank_time);
      std::swap(s_.plan.value, out_.value);
    };
    const int64_t free_bound = FreePlacementBound(s_.expert_rows, costs_, replicas_.ranks);
    trade();
    PlanSpills(replicas_, costs_, free_bound, s_.spill, s_.plan);
    trade();
  }

  std::span<const int32_t> rows_;
  const Replicas& replicas_;
  const CostParameters& costs_;
  AssignScratch& s_;
  Assignment& out_;
};

}  // namespace

void Assign(std::span<const int32_t> rows, const Replicas& replicas, const CostParameters& costs,
            AssignScratch& scratch, Assignment& out) {
  Assigning(rows, replicas, costs, scratch, out).Run();
}

Assignment Assign(std::span<const int32_t> rows, int experts, const LayerPlacement& placement,
                  const CostParameters& costs) {
  Replicas replicas;
  BuildReplicas(placement, experts, {}, replicas);
  AssignScratch scratch;
  Assignment out;
  Assign(rows, replicas, costs, scratch, out);
  return out;
}

bool BoundIsProven(std::span<const int32_t> rows, const Replicas& replicas,
                   const CostParameters& costs, const Assignment& assignment) {
  if (assignment.bound_kind == BoundKind::kNone) {
    return assignment.bound == 0;
  }
  int64_t demand = 0;
  std::vector<bool> holds(static_cast<size_t>(replicas.ranks), false);
  const bool floors = assignment.bound_kind == BoundKind::kFloors;
  const bool pieces = assignment.bound_kind == BoundKind::kPieces;
  for (const int32_t expert : assignment.bound_experts) {
    int64_t expert_rows = 0;
    for (int source = 0; source < replicas.ranks; ++source) {
      expert_rows += rows[static_cast<size_t>(source) * replicas.experts + expert];
    }
    const int64_t tiles = TilesOf(expert_rows, costs.tile_rows);
    demand += floors ? CostOfRows(costs, expert_rows) : pieces ? PiecesOf(costs, tiles) : tiles;
    for (const int32_t slot : replicas.SlotsOf(expert)) {
      holds[replicas.slot_rank[slot]] = true;
    }
  }
  const FlowCosts units = floors   ? FlowCosts{1, costs.speed}
                          : pieces ? FlowCosts{PieceCost(costs), costs.speed}
                                   : FlowCosts{costs.tile_cost, costs.speed};
  int64_t capacity = 0;
  for (int rank = 0; rank < replicas.ranks; ++rank) {
    capacity += holds[rank] ? UnitsInTime(units, rank, assignment.bound - 1) : 0;
  }
  return capacity < demand;
}

}  // namespace ballast
