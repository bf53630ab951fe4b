#include "engine/moe/rounding.h"

#include <algorithm>
#include <cstddef>

namespace ballast {
namespace {

constexpr int kAttempts = 8;           // times tried between bound and value
constexpr int64_t kWorthTrying = 512;  // stop when value and bound differ by less than value / this

// Tiles that go from one slot to another of the same expert.
struct Move {
  int32_t from = -1;
  int32_t into = -1;
  int64_t tiles = 0;
};

class Rounding {
 public:
  Rounding(const Replicas& replicas, const CostParameters& costs, std::span<int64_t> tiles,
           RoundingScratch& scratch)
      : replicas_(replicas), costs_(costs), tiles_(tiles), s_(scratch) {}

  int64_t Run(int64_t bound) {
    const size_t ranks = static_cast<size_t>(replicas_.ranks);
    s_.cap.resize(ranks);
    s_.from_slot.resize(ranks);
    s_.into_slot.resize(ranks);
    s_.reached.resize(ranks);
    SumLoads();
    int64_t value = Value();
    s_.best.assign(tiles_.begin(), tiles_.end());
    int64_t low = bound;
    for (int i = 0; i < kAttempts && value - low > value / kWorthTrying; ++i) {
      const int64_t time = i == 0 ? bound : low + (value - low) / 2;
      // A failed attempt's split is where the next begins: it is nearer to what was sought than the
      // best one, if longer.
      if (!Attempt(time)) {
        low = time;
      }
      const int64_t now = Value();
      if (now < value) {
        value = now;
        std::copy(tiles_.begin(), tiles_.end(), s_.best.begin());
      }
    }
    std::copy(s_.best.begin(), s_.best.end(), tiles_.begin());
    return value;
  }

 private:
  int64_t Cost(int64_t tiles) const {
    return tiles == 0 ? 0 : costs_.floor_cost + tiles * costs_.tile_cost;
  }

  void SumLoads() {
    s_.load.assign(static_cast<size_t>(replicas_.ranks), 0);
    for (int slot = 0; slot < replicas_.slots(); ++slot) {
      s_.load[replicas_.slot_rank[slot]] += Cost(tiles_[slot]);
    }
  }

  int64_t Value() const {
    int64_t value = 0;
    for (int rank = 0; rank < replicas_.ranks; ++rank) {
      value = std::max(value, TimeOfLoad(s_.load[rank], SpeedOf(costs_, rank)));
    }
    return value;
  }

  int64_t Excess(int32_t rank) const { return std::max<int64_t>(0, s_.load[rank] - s_.cap[rank]); }

  bool Attempt(int64_t time) {
    for (int rank = 0; rank < replicas_.ranks; ++rank) {
      s_.cap[rank] = LoadInTime(time, SpeedOf(costs_, rank));
    }
    int steps = 4 * replicas_.ranks + replicas_.slots();
    bool all = true;
    for (int rank = 0; rank < replicas_.ranks; ++rank) {
      while (Excess(rank) > 0) {
        if (steps-- == 0) {
          return false;
        }
        if (!MoveToNeighbour(rank) && !MoveInTwo(rank) && !MoveThroughOthers(rank)) {
          all = false;
          break;
        }
      }
    }
    return all;
  }

  void Apply(const Move& move) {
    int64_t& from_load = s_.load[replicas_.slot_rank[move.from]];
    int64_t& into_load = s_.load[replicas_.slot_rank[move.into]];
    from_load -= Cost(tiles_[move.from]);
    into_load -= Cost(tiles_[move.into]);
    tiles_[move.from] -= move.tiles;
    tiles_[move.into] += move.tiles;
    from_load += Cost(tiles_[move.from]);
    into_load += Cost(tiles_[move.into]);
  }

  // The best move to a rank with room: most excess taken away less floors added, then fewest tiles.
  bool MoveToNeighbour(int32_t rank) {
    const int64_t excess = Excess(rank);
    const int64_t floor = costs_.floor_cost;
    const int64_t tile = costs_.tile_cost;
    const int64_t wanted = (excess + tile - 1) / tile;
    Move best;
    int64_t best_score = INT64_MIN;
    for (const int32_t slot : replicas_.SharedSlotsOf(rank)) {
      const int64_t here = tiles_[slot];
      if (here == 0) {
        continue;
      }
      for (const int32_t other : replicas_.SlotsOf(replicas_.slot_expert[slot])) {
        const int32_t there = replicas_.slot_rank[other];
        const int64_t opens = tiles_[other] == 0 ? floor : 0;
        const int64_t room = s_.cap[there] - s_.load[there] - opens;
        if (there == rank || room < tile) {
          continue;
        }
        const auto consider = [&](int64_t tiles) {
          const int64_t closes = tiles == here ? floor : 0;
          const int64_t score = std::min(excess, tiles * tile + closes) - opens + closes;
          if (score > best_score || (score == best_score && tiles < best.tiles)) {
            best_score = score;
            best = {slot, other, tiles};
          }
        };
        if (here * tile <= room) {
          consider(here);
        }
        const int64_t part = std::min(wanted, room / tile);
        if (part < here) {
          consider(part);
        }
      }
    }
    if (best.tiles == 0) {
      return false;
    }
    Apply(best);
    return true;
  }

  // What leaves and enters a rank's load with a move.
  int64_t Leaves(int32_t slot, int64_t tiles) const {
    return tiles * costs_.tile_cost + (tiles == tiles_[slot] ? costs_.floor_cost : 0);
  }
  int64_t Enters(int32_t slot, int64_t tiles) const {
    return tiles * costs_.tile_cost + (tiles_[slot] == 0 ? costs_.floor_cost : 0);
  }

  int64_t ExcessAt(int32_t rank, int64_t load) const {
    return std::max<int64_t>(0, load - s_.cap[rank]);
  }

  // The best pair of moves from `rank` to a second rank and from there to a third, or back (an
  // exchange); all or part of an expert each. Same score as above.
  bool MoveInTwo(int32_t rank) {
    best_score_ = INT64_MIN;
    const int64_t tile = costs_.tile_cost;
    const int64_t excess = Excess(rank);
    for (const int32_t slot : replicas_.SharedSlotsOf(rank)) {
      const int64_t here = tiles_[slot];
      if (here == 0) {
        continue;
      }
      for (const int32_t other : replicas_.SlotsOf(replicas_.slot_expert[slot])) {
        if (other == slot) {
          continue;
        }
        SecondMoves(rank, {slot, other, here});
        const int64_t part = (excess + tile - 1) / tile;
        if (part < here) {
          SecondMoves(rank, {slot, other, part});
        }
      }
    }
    if (best_score_ == INT64_MIN) {
      return false;
    }
    Apply(first_);
    Apply(second_);
    return true;
  }

  void SecondMoves(int32_t rank, const Move& first) {
    const int64_t tile = costs_.tile_cost;
    const int32_t via = replicas_.slot_rank[first.into];
    const int64_t left = s_.load[rank] - Leaves(first.from, first.tiles);
    const int64_t arrived = s_.load[via] + Enters(first.into, first.tiles);
    const int64_t over = ExcessAt(via, arrived);
    if (over == 0) {
      return;
    }
    const int64_t before = Excess(rank) + Excess(via);
    const int64_t floors = left + arrived - s_.load[rank] - s_.load[via];
    for (const int32_t slot : replicas_.SharedSlotsOf(via)) {
      const int64_t here = tiles_[slot];
      if (here == 0 || slot == first.into) {
        continue;
      }
      for (const int32_t other : replicas_.SlotsOf(replicas_.slot_expert[slot])) {
        const int32_t to = replicas_.slot_rank[other];
        if (other == slot) {
          continue;
        }
        const int64_t to_load = to == rank ? left : s_.load[to];
        if (to_load >= s_.cap[to]) {
          continue;
        }
        const int64_t part = (over + tile - 1) / tile;
        for (const int64_t tiles : {here, part}) {
          if (tiles > here) {
            continue;
          }
          const int64_t leaves = Leaves(slot, tiles);
          const int64_t enters = Enters(other, tiles);
          int64_t after = ExcessAt(via, arrived - leaves) + ExcessAt(to, to_load + enters);
          after += to == rank ? 0 : ExcessAt(rank, left);
          const int64_t was = before + (to == rank ? 0 : Excess(to));
          const int64_t score = was - after - (floors + enters - leaves);
          if (after < was && score > best_score_) {
            best_score_ = score;
            first_ = first;
            second_ = {slot, other, tiles};
          }
        }
      }
    }
  }

  // Hands the excess on from rank to rank until one has room; keeps that only when the sum of all
  // excess shrinks, and so comes to an end.
  bool MoveThroughOthers(int32_t from) {
    std::fill(s_.reached.begin(), s_.reached.end(), uint8_t{0});
    s_.queue.assign(1, from);
    s_.reached[from] = 1;
    for (size_t head = 0; head < s_.queue.size(); ++head) {
      for (const int32_t slot : replicas_.SharedSlotsOf(s_.queue[head])) {
        if (tiles_[slot] == 0) {
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
          s_.queue.push_back(rank);
          if (s_.cap[rank] - s_.load[rank] >= costs_.tile_cost && TryPath(from, rank)) {
            return true;
          }
        }
      }
    }
    return false;
  }

  bool TryPath(int32_t from, int32_t to) {
    s_.path.clear();
    for (int32_t rank = to; rank != from; rank = replicas_.slot_rank[s_.from_slot[rank]]) {
      s_.path.push_back(rank);
    }
    int64_t before = Excess(from);
    for (const int32_t rank : s_.path) {
      before += Excess(rank);
    }
    moves_ = 0;
    int32_t rank = from;
    for (size_t i = s_.path.size(); i-- > 0 && Excess(rank) > 0; rank = s_.path[i]) {
      const int32_t next = s_.path[i];
      const Move move = {s_.from_slot[next], s_.into_slot[next],
                         TilesToPass(Excess(rank), tiles_[s_.from_slot[next]])};
      Apply(move);
      s_.passed[moves_++] = move.tiles;
    }
    int64_t after = Excess(from);
    for (const int32_t on_path : s_.path) {
      after += Excess(on_path);
    }
    if (after < before) {
      return true;
    }
    while (moves_ > 0) {
      --moves_;
      const int32_t next = s_.path[s_.path.size() - 1 - moves_];
      Apply({s_.into_slot[next], s_.from_slot[next], s_.passed[moves_]});
    }
    return false;
  }

  // All of them where that costs no more than leaving a stub that pays a floor.
  int64_t TilesToPass(int64_t excess, int64_t here) const {
    const int64_t part = (excess + costs_.tile_cost - 1) / costs_.tile_cost;
    const bool whole = here * costs_.tile_cost <= excess + costs_.floor_cost;
    return whole ? here : std::min(part, here);
  }

  const Replicas& replicas_;
  const CostParameters& costs_;
  std::span<int64_t> tiles_;
  RoundingScratch& s_;
  size_t moves_ = 0;
  int64_t best_score_ = 0;
  Move first_;
  Move second_;
};

}  // namespace

int64_t RoundToTiles(const Replicas& replicas, const CostParameters& costs, int64_t bound,
                     std::span<int64_t> tiles, RoundingScratch& scratch) {
  scratch.passed.resize(static_cast<size_t>(replicas.ranks));
  return Rounding(replicas, costs, tiles, scratch).Run(bound);
}

}  // namespace ballast
