#include "engine/moe/split.h"

#include <algorithm>
#include <cstddef>

#include "engine/status.h"

namespace ballast {
namespace {

class Splitting {
 public:
  Splitting(std::span<const int32_t> rows, const Replicas& replicas, const Assignment& assignment,
            SplitScratch& scratch, RowSplit& out)
      : rows_(rows), replicas_(replicas), assignment_(assignment), s_(scratch), out_(out) {}

  void Run() {
    const size_t slots = static_cast<size_t>(replicas_.slots());
    out_.targets = static_cast<int>(slots + assignment_.spills.size());
    out_.rows.assign(static_cast<size_t>(replicas_.ranks) * out_.targets, 0);
    s_.left.assign(assignment_.slot_rows.begin(), assignment_.slot_rows.end());
    s_.spilled.assign(static_cast<size_t>(replicas_.experts), 0);
    for (const Spill& spill : assignment_.spills) {
      s_.left.push_back(spill.rows);
      s_.spilled[spill.expert] = 1;
    }
    for (int expert = 0; expert < replicas_.experts; ++expert) {
      const std::span<const int32_t> held = replicas_.SlotsOf(expert);
      if (held.size() == 1 && s_.spilled[expert] == 0) {
        TakeAll(expert, held[0]);
      } else if (!held.empty()) {
        Match(expert, held);
      }
    }
  }

 private:
  int32_t Rows(int source, int expert) const {
    return rows_[static_cast<size_t>(source) * replicas_.experts + expert];
  }
  int32_t& Cell(int source, int32_t target) {
    return out_.rows[static_cast<size_t>(source) * out_.targets + target];
  }

  void TakeAll(int expert, int32_t slot) {
    for (int source = 0; source < replicas_.ranks; ++source) {
      Cell(source, slot) = Rows(source, expert);
    }
  }

  void Match(int expert, std::span<const int32_t> held) {
    s_.target.clear();
    s_.target_rank.clear();
    for (const int32_t slot : held) {
      s_.target.push_back(slot);
      s_.target_rank.push_back(replicas_.slot_rank[slot]);
    }
    if (s_.spilled[expert] != 0) {
      for (size_t i = 0; i < assignment_.spills.size(); ++i) {
        if (assignment_.spills[i].expert == expert) {
          s_.target.push_back(replicas_.slots() + static_cast<int32_t>(i));
          s_.target_rank.push_back(assignment_.spills[i].to);
        }
      }
    }
    s_.source_left.clear();
    for (int source = 0; source < replicas_.ranks; ++source) {
      s_.source_left.push_back(Rows(source, expert));
    }
    Give([](int source, int rank) { return source == rank; });
    if (!replicas_.node.empty()) {
      Give([this](int source, int rank) { return replicas_.SameNode(source, rank); });
    }
    Give([](int, int) { return true; });
    for (const int32_t left : s_.source_left) {
      CHECK(left == 0);
    }
  }

  // Sources in order fill targets in order, where `may`.
  template <typename May>
  void Give(May may) {
    for (int source = 0; source < replicas_.ranks; ++source) {
      for (size_t i = 0; i < s_.target.size() && s_.source_left[source] > 0; ++i) {
        const int32_t target = s_.target[i];
        if (s_.left[target] == 0 || !may(source, s_.target_rank[i])) {
          continue;
        }
        const int32_t rows = std::min(s_.source_left[source], s_.left[target]);
        Cell(source, target) += rows;
        s_.source_left[source] -= rows;
        s_.left[target] -= rows;
      }
    }
  }

  std::span<const int32_t> rows_;
  const Replicas& replicas_;
  const Assignment& assignment_;
  SplitScratch& s_;
  RowSplit& out_;
};

}  // namespace

void Split(std::span<const int32_t> rows, const Replicas& replicas, const Assignment& assignment,
           SplitScratch& scratch, RowSplit& out) {
  Splitting(rows, replicas, assignment, scratch, out).Run();
}

}  // namespace ballast
