#include "engine/moe/replicas.h"

#include "engine/status.h"

namespace ballast {
namespace {

// The slot of `slots` that runs rows of `source` under plain expert parallelism.
int32_t PlainSlot(const Replicas& replicas, std::span<const int32_t> slots, int source) {
  size_t near = 0;
  for (const int32_t slot : slots) {
    if (replicas.slot_rank[slot] == source) {
      return slot;
    }
    near += replicas.SameNode(replicas.slot_rank[slot], source) ? 1 : 0;
  }
  if (near == 0) {
    return slots[static_cast<size_t>(source) % slots.size()];
  }
  size_t skip = static_cast<size_t>(source) % near;
  for (const int32_t slot : slots) {
    if (replicas.SameNode(replicas.slot_rank[slot], source) && skip-- == 0) {
      return slot;
    }
  }
  return slots.front();
}

// slot and begin: slots by expert, by counting.
void GroupByExpert(Replicas& out) {
  out.begin.assign(static_cast<size_t>(out.experts) + 1, 0);
  for (const int32_t expert : out.slot_expert) {
    if (expert >= 0) {
      ++out.begin[expert + 1];
    }
  }
  for (int expert = 0; expert < out.experts; ++expert) {
    out.begin[expert + 1] += out.begin[expert];
  }
  out.slot.resize(static_cast<size_t>(out.begin[out.experts]));
  for (int32_t slot = out.slots() - 1; slot >= 0; --slot) {
    const int32_t expert = out.slot_expert[slot];
    if (expert >= 0) {
      out.slot[--out.begin[expert + 1]] = slot;
    }
  }
  // Filling moved each end down to its begin, which is the end of the expert before.
  for (int expert = 0; expert < out.experts; ++expert) {
    out.begin[expert] = out.begin[expert + 1];
  }
  out.begin[out.experts] = static_cast<int32_t>(out.slot.size());
}

}  // namespace

void BuildReplicas(const LayerPlacement& placement, int experts, std::span<const int32_t> node,
                   Replicas& out) {
  const size_t slots = static_cast<size_t>(placement.ranks) * placement.slots_per_rank;
  CHECK(placement.slot_expert.size() == slots);
  CHECK(node.empty() || node.size() == static_cast<size_t>(placement.ranks));
  out.ranks = placement.ranks;
  out.experts = experts;
  out.slots_per_rank = placement.slots_per_rank;
  out.slot_expert = placement.slot_expert;
  out.node.assign(node.begin(), node.end());
  out.slot_rank.resize(slots);
  for (size_t slot = 0; slot < slots; ++slot) {
    out.slot_rank[slot] = static_cast<int32_t>(slot) / placement.slots_per_rank;
    CHECK(out.slot_expert[slot] >= -1 && out.slot_expert[slot] < experts);
  }
  GroupByExpert(out);

  out.shared.clear();
  for (int expert = 0; expert < experts; ++expert) {
    const std::span<const int32_t> held = out.SlotsOf(expert);
    for (size_t i = 1; i < held.size(); ++i) {
      CHECK(out.slot_rank[held[i]] != out.slot_rank[held[i - 1]]);
    }
    if (held.size() > 1) {
      out.shared.push_back(expert);
    }
  }
  out.rank_begin.assign(1, 0);
  out.rank_shared_slot.clear();
  for (int rank = 0; rank < out.ranks; ++rank) {
    for (int i = 0; i < out.slots_per_rank; ++i) {
      const int32_t slot = rank * out.slots_per_rank + i;
      const int32_t expert = out.slot_expert[slot];
      if (expert >= 0 && out.SlotsOf(expert).size() > 1) {
        out.rank_shared_slot.push_back(slot);
      }
    }
    out.rank_begin.push_back(static_cast<int32_t>(out.rank_shared_slot.size()));
  }
  out.plain_slot.resize(static_cast<size_t>(out.ranks) * out.shared.size());
  size_t next = 0;
  for (int source = 0; source < out.ranks; ++source) {
    for (const int32_t expert : out.shared) {
      out.plain_slot[next++] = PlainSlot(out, out.SlotsOf(expert), source);
    }
  }
}

}  // namespace ballast
