#include "engine/moe/replan_layer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <set>

#include "engine/status.h"

namespace ballast {
namespace {

// A step must lower the height by more than this: less is rounding.
constexpr double kLeastStep = 1e-6;
// Steps of each kind that are tried out of all that are estimated.
constexpr size_t kTried = 5;
// Loads around the mean one. A few more balance real steps hardly better.
constexpr size_t kVariedLoads = 8;
// How far they are from it, in standard deviations: what matters is the highest of all ranks, and
// that is high where experts are further up than usual.
constexpr double kDeviations = 1.6;
// What it is worth, as a level, that all of the load finds its expert on its own machine. Small,
// so that it decides between steps of about the same gain.
constexpr double kNearness = 0.02;

struct Candidate {
  double score = 0;  // estimated change of the highest level; lower is better
  std::array<SlotChange, 2> changes{};
  size_t count = 0;

  std::span<const SlotChange> span() const { return {changes.data(), count}; }
};

// The best few, best first; of equal ones the first found.
struct Shortlist {
  std::array<Candidate, kTried> best{};
  size_t count = 0;

  bool Wants(double score) const { return count < kTried || score < best[count - 1].score; }
  void Add(const Candidate& candidate) {
    const bool known = std::any_of(best.begin(), best.begin() + count, [&](const Candidate& other) {
      return other.count == candidate.count && other.changes[0].slot == candidate.changes[0].slot &&
             other.changes[0].expert == candidate.changes[0].expert &&
             other.changes[1].slot == candidate.changes[1].slot;
    });
    if (known) {
      return;
    }
    size_t at = count < kTried ? count++ : kTried - 1;
    for (; at > 0 && candidate.score < best[at - 1].score; --at) {
      best[at] = best[at - 1];
    }
    best[at] = candidate;
  }
};

// Ranks at one level between which load can flow.
struct Group {
  double load = 0;
  double speed = 0;
  double LevelWith(double more) const { return (load + more) / speed; }
};

// The load that brings two groups to one level when it goes from one to the other.
double Even(const Group& from, const Group& to) {
  return (from.load * to.speed - to.load * from.speed) / (from.speed + to.speed);
}

// Bit number `bit` of a well mixed number: which way an expert's load is varied.
bool CoinOf(size_t expert, size_t bit) {
  uint64_t mixed = (expert + 1) * 0x9E3779B97F4A7C15u;
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
  return ((mixed >> (32 + bit)) & 1) != 0;
}

class Search {
 public:
  Search(const LayerPlacement& current, std::span<const int64_t> load,
         const LayerReplanOptions& options, ReplanScratch& scratch)
      : was_(current), load_(load), options_(options), s_(scratch), now_(scratch.current) {}

  LayerReplan Run() {
    VaryLoads();
    now_.Start(was_, load_.size(), s_.loads, options_.speed);
    machines_ = std::set<int32_t>(options_.node.begin(), options_.node.end()).size();
    if (machines_ > 1) {
      const auto most = static_cast<double>(*std::max_element(load_.begin(), load_.end()));
      most_nearer_ = 2 * kNearness * most / total_ / static_cast<double>(machines_);
    }
    stands_.assign(static_cast<size_t>(was_.ranks) * load_.size(), 0);
    for (int slot = 0; slot < now_.slots(); ++slot) {
      if (now_.slot_expert()[slot] >= 0) {
        stands_[Standing(slot, now_.slot_expert()[slot])] = 1;
      }
    }
    stood_ = stands_;
    LayerReplan out{was_, 0, now_.Highest(), now_.Highest()};
    double best = out.before;
    int moves = 0;
    // Steps that cost no move take an expert back to where it stood, so there are not many.
    for (int step = 0; step < 2 * options_.max_moves && moves < options_.max_moves; ++step) {
      if (!TakeStep(moves)) {
        break;
      }
      const double cost = now_.Highest() + options_.least_gain * moves;
      if (cost < best) {
        best = cost;
        out.placement.slot_expert = now_.slot_expert();
        out.moves = moves;
        out.after = now_.Highest();
      }
    }
    KeepSlots(out.placement);
    return out;
  }

 private:
  // In pairs on both sides of the mean.
  void VaryLoads() {
    const double deviation = options_.variation * kDeviations;
    const size_t count = deviation > 0 ? kVariedLoads : 1;
    for (const int64_t units : load_) {
      total_ += static_cast<double>(units);
    }
    const double mean = total_ / static_cast<double>(load_.size());
    s_.loads.clear();
    for (size_t i = 0; i < count; ++i) {
      for (size_t expert = 0; expert < load_.size(); ++expert) {
        const double units = static_cast<double>(load_[expert]);
        const double by = deviation * std::sqrt(units * mean);
        const bool up = CoinOf(expert, i / 2) == (i % 2 == 0);
        // At least a tenth stays, as a load that is rare is not nothing.
        s_.loads.push_back(up ? units + by : std::max(units / 10, units - by));
      }
    }
  }

  size_t Standing(int slot, int32_t expert) const {
    return static_cast<size_t>(now_.RankOf(slot)) * load_.size() + static_cast<size_t>(expert);
  }

  // Moves that changes add to those since was_; below 0 when they take some back.
  int MovesOf(std::span<const SlotChange> changes) const {
    int moves = 0;
    for (const SlotChange& change : changes) {
      const int32_t old = now_.slot_expert()[change.slot];
      moves += 1 - stood_[Standing(change.slot, change.expert)];
      moves -= old >= 0 ? 1 - stood_[Standing(change.slot, old)] : 0;
    }
    return moves;
  }

  // Takes the best step within the moves left; false when none gains.
  bool TakeStep(int& moves) {
    copies_.count = 0;
    exchanges_.count = 0;
    for (size_t load = 0; load < now_.loads(); ++load) {
      units_ = now_.UnitsOf(load);
      levels_ = now_.LevelsOf(load);
      FindGroups();
      FindCandidates();
    }
    const double height = now_.Height();
    const Candidate* best = nullptr;
    double best_gain = 0;
    int best_moves = 0;
    for (const Shortlist* list : {&copies_, &exchanges_}) {
      for (size_t i = 0; i < list->count; ++i) {
        const Candidate& candidate = list->best[i];
        const int more = MovesOf(candidate.span());
        if (moves + more > options_.max_moves) {
          continue;
        }
        s_.trial = now_;
        s_.trial.Change(candidate.span());
        const double lower = height - s_.trial.Height();
        const double gain = (lower + kNearness * Nearer(candidate.span())) / std::max(more, 1);
        if (lower > kLeastStep && gain > best_gain) {
          best = &candidate;
          best_gain = gain;
          best_moves = more;
          std::swap(s_.best, s_.trial);
        }
      }
    }
    if (best == nullptr) {
      return false;
    }
    for (const SlotChange& change : best->span()) {
      if (const int32_t old = now_.slot_expert()[change.slot]; old >= 0) {
        stands_[Standing(change.slot, old)] = 0;
      }
    }
    for (const SlotChange& change : best->span()) {
      stands_[Standing(change.slot, change.expert)] = 1;
    }
    std::swap(now_, s_.best);
    moves += best_moves;
    return true;
  }

  // Unites ranks at one level that share an expert with load there.
  void FindGroups() {
    group_.resize(static_cast<size_t>(now_.ranks()));
    for (int rank = 0; rank < now_.ranks(); ++rank) {
      group_[rank] = rank;
    }
    for (int slot = 0; slot < now_.slots(); ++slot) {
      const int other = now_.NextCopy(slot);
      if (other == slot || units_[slot] + units_[other] <= kLeastStep) {
        continue;
      }
      const int rank = now_.RankOf(slot);
      if (std::abs(levels_[rank] - levels_[now_.RankOf(other)]) <= 2 * kLevelStep) {
        group_[Root(rank)] = Root(now_.RankOf(other));
      }
    }
    groups_.assign(static_cast<size_t>(now_.ranks()), {});
    top_ = 0;
    for (int rank = 0; rank < now_.ranks(); ++rank) {
      group_[rank] = Root(rank);
      groups_[group_[rank]].load += levels_[rank] * now_.SpeedOf(rank);
      groups_[group_[rank]].speed += now_.SpeedOf(rank);
      top_ = levels_[rank] > levels_[top_] ? rank : top_;
    }
    top_ = group_[top_];
    top_level_ = groups_[top_].LevelWith(0);
  }

  int Root(int rank) const {
    while (group_[rank] != rank) {
      rank = group_[rank];
    }
    return rank;
  }

  void FindCandidates() {
    sources_.clear();
    for (int slot = 0; slot < now_.slots(); ++slot) {
      if (group_[now_.RankOf(slot)] == top_ && units_[slot] > kLeastStep) {
        sources_.push_back({slot, LoadOnTop(slot)});
      }
    }
    // Where there is most room first, so that the rest need not be looked at.
    order_.clear();
    for (int rank = 0; rank < now_.ranks(); ++rank) {
      if (group_[rank] != top_) {
        order_.push_back(rank);
      }
    }
    std::sort(order_.begin(), order_.end(), [this](int a, int b) {
      const double left = Merged(groups_[group_[a]]);
      const double right = Merged(groups_[group_[b]]);
      return left != right ? left < right : a < b;
    });
    for (const int rank : order_) {
      FindCopies(rank);
      if (exchanges_.Wants(BestScore(groups_[group_[rank]]))) {
        FindExchanges(rank);
      }
    }
  }

  // The level of the top ranks and a group when load can flow freely between them.
  double Merged(const Group& low) const {
    const Group& top = groups_[top_];
    return (top.load + low.load) / (top.speed + low.speed);
  }

  // No step between the top ranks and a group scores less.
  double BestScore(const Group& low) const { return Merged(low) - top_level_ - most_nearer_; }

  // Load of a slot's expert on the top ranks; 0 when another slot of it there comes first.
  double LoadOnTop(int slot) const {
    double load = units_[slot];
    for (int other = now_.NextCopy(slot); other != slot; other = now_.NextCopy(other)) {
      if (group_[now_.RankOf(other)] == top_) {
        if (other < slot && units_[other] > kLeastStep) {
          return 0;
        }
        load += units_[other];
      }
    }
    return load;
  }

  // An expert of the top ranks into a slot of `rank` that is empty or whose expert stands elsewhere
  // too. What runs there now goes to its lowest other rank.
  void FindCopies(int rank) {
    const int begin = rank * now_.slots_per_rank();
    for (int slot = begin; slot < begin + now_.slots_per_rank(); ++slot) {
      if (now_.slot_expert()[slot] >= 0 && !now_.IsShared(slot)) {
        continue;
      }
      const int here = group_[rank];
      const int there = group_[now_.RankOf(LowestOtherCopy(slot))];
      const double dropped = there == here ? 0 : units_[slot];
      Group top = groups_[top_];
      Group low = groups_[here];
      top.load += there == top_ ? dropped : 0;
      low.load -= dropped;
      if (!copies_.Wants(BestScore(low))) {
        continue;
      }
      const double even = Even(top, low);
      const double elsewhere =
          there == top_ || there == here ? 0 : groups_[there].LevelWith(dropped);
      for (const Source& source : sources_) {
        const int32_t expert = now_.slot_expert()[source.slot];
        if (source.load > 0 && stands_[Standing(slot, expert)] == 0) {
          const double down = std::clamp(even, 0.0, source.load);
          const double highest = std::max({top.LevelWith(-down), low.LevelWith(down), elsewhere});
          Offer(copies_, highest, {{{slot, expert}, {}}}, 1);
        }
      }
    }
  }

  // The slot itself when there is no other.
  int LowestOtherCopy(int slot) const {
    int lowest = now_.NextCopy(slot);
    for (int other = lowest; other != slot; other = now_.NextCopy(other)) {
      lowest = levels_[now_.RankOf(other)] < levels_[now_.RankOf(lowest)] ? other : lowest;
    }
    return lowest;
  }

  // For each expert of the top ranks the one of `rank` whose place, when they trade, evens the two
  // groups out best.
  void FindExchanges(int rank) {
    const Group& top = groups_[top_];
    const Group& low = groups_[group_[rank]];
    const double wanted = Even(top, low);
    const int begin = rank * now_.slots_per_rank();
    for (const Source& source : sources_) {
      const double aim = units_[source.slot] - wanted;
      int nearest = begin;
      double distance = std::abs(units_[begin] - aim);
      for (int slot = begin + 1; slot < begin + now_.slots_per_rank(); ++slot) {
        const double off = std::abs(units_[slot] - aim);
        nearest = off < distance ? slot : nearest;
        distance = std::min(distance, off);
      }
      const double down = units_[source.slot] - units_[nearest];
      const int32_t expert = now_.slot_expert()[source.slot];
      const int32_t other = now_.slot_expert()[nearest];
      const double highest = std::max(top.LevelWith(-down), low.LevelWith(down));
      if (highest < top_level_ && other >= 0 && stands_[Standing(nearest, expert)] == 0 &&
          stands_[Standing(source.slot, other)] == 0) {
        Offer(exchanges_, highest, {{{source.slot, other}, {nearest, expert}}}, 2);
      }
    }
  }

  void Offer(Shortlist& list, double highest, const std::array<SlotChange, 2>& changes,
             size_t count) {
    Candidate candidate{highest - top_level_, changes, count};
    if (candidate.score >= 0) {
      return;
    }
    candidate.score -= machines_ < 2 ? 0 : kNearness * Nearer(candidate.span());
    if (list.Wants(candidate.score)) {
      list.Add(candidate);
    }
  }

  // How much more of the load finds its expert on its own machine, taking tokens to be even over
  // machines.
  double Nearer(std::span<const SlotChange> changes) const {
    if (machines_ < 2) {
      return 0;
    }
    double nearer = 0;
    for (const SlotChange& change : changes) {
      const int32_t old = now_.slot_expert()[change.slot];
      nearer += Presence(change.slot, change.expert, changes);
      nearer -= old < 0 ? 0 : Presence(change.slot, old, changes);
    }
    return nearer;
  }

  // The share of all load that an expert in a slot brings near: none if it stands on that machine
  // in another slot that is not among the changes.
  double Presence(int slot, int32_t expert, std::span<const SlotChange> changes) const {
    const int32_t machine = options_.node[now_.RankOf(slot)];
    for (int rank = 0; rank < now_.ranks(); ++rank) {
      if (options_.node[rank] != machine ||
          stands_[static_cast<size_t>(rank) * load_.size() + static_cast<size_t>(expert)] == 0) {
        continue;
      }
      const bool leaves = std::any_of(changes.begin(), changes.end(), [&](const SlotChange& c) {
        return now_.RankOf(c.slot) == rank && now_.slot_expert()[c.slot] == expert;
      });
      if (!leaves) {
        return 0;
      }
    }
    return static_cast<double>(load_[expert]) / total_ / static_cast<double>(machines_);
  }

  // Experts that were on their rank before go back to their slots there; new ones take what is
  // left, in order.
  void KeepSlots(LayerPlacement& placement) const {
    const ptrdiff_t per_rank = placement.slots_per_rank;
    for (ptrdiff_t rank = 0; rank < placement.ranks; ++rank) {
      const auto was = was_.slot_expert.begin() + rank * per_rank;
      const auto now = placement.slot_expert.begin() + rank * per_rank;
      for (ptrdiff_t i = 0; i < per_rank; ++i) {
        const auto at = was[i] < 0 ? now + per_rank : std::find(now, now + per_rank, was[i]);
        if (at != now + per_rank) {
          std::iter_swap(at, now + i);
        }
      }
    }
  }

  struct Source {
    int slot = 0;
    double load = 0;  // LoadOnTop
  };

  const LayerPlacement& was_;
  std::span<const int64_t> load_;
  const LayerReplanOptions& options_;
  ReplanScratch& s_;
  Leveling& now_;
  double total_ = 0;             // of load_
  size_t machines_ = 0;          // distinct labels
  double most_nearer_ = 0;       // what nearness can do for a step
  std::vector<uint8_t> stands_;  // [ranks, experts] where experts stand now
  std::vector<uint8_t> stood_;   // and stood in was_
  Shortlist copies_;
  Shortlist exchanges_;
  // Under the load at hand.
  std::span<const double> units_;   // [slots]
  std::span<const double> levels_;  // [ranks]
  std::vector<int> group_;          // [ranks] one rank of its group
  std::vector<Group> groups_;       // [ranks] at that rank
  int top_ = 0;                     // the group of the highest rank
  double top_level_ = 0;
  std::vector<Source> sources_;  // slots on top ranks with load
  std::vector<int> order_;       // the other ranks
};

}  // namespace

LayerReplan ReplanLayer(const LayerPlacement& current, std::span<const int64_t> load,
                        const LayerReplanOptions& options, ReplanScratch& scratch) {
  CHECK(options.node.empty() || options.node.size() == static_cast<size_t>(current.ranks));
  const bool idle = std::all_of(load.begin(), load.end(), [](int64_t units) { return units == 0; });
  if (idle) {
    return {current, 0, 1, 1};
  }
  return Search(current, load, options, scratch).Run();
}

}  // namespace ballast
