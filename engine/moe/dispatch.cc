#include "engine/moe/dispatch.h"

#include <algorithm>

namespace ballast {
namespace {

// Sorts token * k + choice by expert, stably.
void SortByExpert(std::span<const int32_t> ids, int experts, DispatchScratch& s) {
  // Counts go in shifted by two, so that after placing the rows expert_begin[e + 1] has moved from
  // the begin of expert e to its end.
  s.expert_begin.assign(experts + 2, 0);
  for (const int32_t expert : ids) ++s.expert_begin[expert + 2];
  for (int e = 0; e < experts; ++e) s.expert_begin[e + 2] += s.expert_begin[e + 1];
  s.by_expert.resize(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    s.by_expert[s.expert_begin[ids[i] + 1]++] = static_cast<int32_t>(i);
  }
  s.expert_begin.pop_back();
}

int32_t RankOfTarget(const Replicas& replicas, const std::vector<Spill>& spills, int target) {
  return target < replicas.slots() ? replicas.slot_rank[target]
                                   : spills[target - replicas.slots()].to;
}

int32_t ExpertOfTarget(const Replicas& replicas, const std::vector<Spill>& spills, int target) {
  return target < replicas.slots() ? replicas.slot_expert[target]
                                   : spills[target - replicas.slots()].expert;
}

// What this rank sends: each expert's rows are cut over its targets in ascending order.
void PlanGive(int rank, int32_t k, const Replicas& replicas, const std::vector<Spill>& spills,
              const RowSplit& split, DispatchScratch& s, DispatchPlan& out) {
  const int32_t* mine = split.rows.data() + static_cast<int64_t>(rank) * split.targets;
  s.target_first.assign(split.targets, 0);
  out.return_counts.assign(replicas.ranks, 0);
  for (int target = 0; target < split.targets; ++target) {
    if (mine[target] == 0) continue;
    int32_t& next = s.expert_begin[ExpertOfTarget(replicas, spills, target)];
    s.target_first[target] = next;
    next += mine[target];
    out.return_counts[RankOfTarget(replicas, spills, target)] += mine[target];
  }
  out.give.begin.assign(replicas.ranks + 1, 0);
  for (int r = 0; r < replicas.ranks; ++r) {
    out.give.begin[r + 1] = out.give.begin[r] + out.return_counts[r];
  }
  out.choice.resize(s.by_expert.size());
  out.give.rows.resize(s.by_expert.size());
  // Slots come rank by rank and spills last, so one pass fills every rank's run in target order.
  std::vector<int32_t>& next = s.received;
  next.assign(out.give.begin.begin(), out.give.begin.end());
  for (int target = 0; target < split.targets; ++target) {
    int32_t& at = next[RankOfTarget(replicas, spills, target)];
    for (int32_t i = 0; i < mine[target]; ++i, ++at) {
      out.choice[at] = s.by_expert[s.target_first[target] + i];
      out.give.rows[at] = out.choice[at] / k;
    }
  }
}

// What this rank gets, runs and sends back.
void PlanReceive(int rank, const Replicas& replicas, const std::vector<Spill>& spills,
                 const RowSplit& split, DispatchScratch& s, DispatchPlan& out) {
  out.targets.clear();
  for (int slot = 0; slot < replicas.slots_per_rank; ++slot) {
    out.targets.push_back(rank * replicas.slots_per_rank + slot);
  }
  for (size_t i = 0; i < spills.size(); ++i) {
    if (spills[i].to == rank) out.targets.push_back(replicas.slots() + static_cast<int>(i));
  }
  const size_t own = out.targets.size();
  const auto rows = [&](int source, size_t t) {
    return split.rows[static_cast<int64_t>(source) * split.targets + out.targets[t]];
  };

  out.receive_counts.assign(replicas.ranks, 0);
  out.target_begin.assign(own + 1, 0);
  out.back.begin.assign(replicas.ranks + 1, 0);
  s.received.assign(replicas.ranks * own, 0);
  int32_t received = 0;
  for (int source = 0; source < replicas.ranks; ++source) {
    out.back.begin[source] = received;
    for (size_t t = 0; t < own; ++t) {
      s.received[source * own + t] = received;
      received += rows(source, t);
      out.target_begin[t + 1] += rows(source, t);
    }
    out.receive_counts[source] = received - out.back.begin[source];
  }
  out.back.begin[replicas.ranks] = received;
  for (size_t t = 0; t < own; ++t) out.target_begin[t + 1] += out.target_begin[t];

  out.order.resize(received);
  out.back.rows.resize(received);
  int32_t row = 0;
  for (size_t t = 0; t < own; ++t) {
    for (int source = 0; source < replicas.ranks; ++source) {
      const int32_t first = s.received[source * own + t];
      for (int32_t i = 0; i < rows(source, t); ++i, ++row) {
        out.order[row] = first + i;
        out.back.rows[first + i] = row;
      }
    }
  }
}

}  // namespace

void PlanDispatch(int rank, std::span<const int32_t> ids, int32_t k, const Replicas& replicas,
                  const std::vector<Spill>& spills, const RowSplit& split, DispatchScratch& scratch,
                  DispatchPlan& out) {
  SortByExpert(ids, replicas.experts, scratch);
  PlanGive(rank, k, replicas, spills, split, scratch, out);
  PlanReceive(rank, replicas, spills, split, scratch, out);
}

void CountRows(std::span<const int32_t> ids, std::span<int32_t> counts) {
  std::fill(counts.begin(), counts.end(), 0);
  for (const int32_t id : ids) ++counts[id];
}

}  // namespace ballast
