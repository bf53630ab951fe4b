#include <algorithm>
#include <limits>

#include "engine/tokenizer/bpe.h"

namespace ballast {
namespace {

constexpr uint32_t kNoMerge = std::numeric_limits<uint32_t>::max();

// Up to here finding the lowest rank by looking at all of them beats keeping a heap.
constexpr size_t kScanAtMost = 32;

// For std::push_heap, which keeps the greatest on top: lowest rank first, then leftmost.
bool IsLater(const MergeTable::Scratch::Candidate& a, const MergeTable::Scratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
}

}  // namespace

void MergeTable::Apply(std::vector<int32_t>* ids, Scratch* scratch) const {
  if (ids->size() < 2) return;
  if (ids->size() <= kScanAtMost) {
    ApplyByScan(ids, scratch);
  } else {
    ApplyByHeap(ids, scratch);
  }
}

void MergeTable::ApplyByScan(std::vector<int32_t>* ids, Scratch* scratch) const {
  std::vector<uint32_t>& ranks = scratch->ranks;  // of the pair that begins at an index
  const auto rank_at = [&](size_t at) {
    const Merge* merge = Find((*ids)[at], (*ids)[at + 1]);
    return merge == nullptr ? kNoMerge : merge->rank;
  };
  ranks.resize(ids->size() - 1);
  for (size_t at = 0; at < ranks.size(); ++at) ranks[at] = rank_at(at);
  while (!ranks.empty()) {
    const auto lowest = std::min_element(ranks.begin(), ranks.end());
    if (*lowest == kNoMerge) return;
    const auto at = static_cast<size_t>(lowest - ranks.begin());
    (*ids)[at] = Find((*ids)[at], (*ids)[at + 1])->result;
    ids->erase(ids->begin() + static_cast<std::ptrdiff_t>(at) + 1);
    ranks.erase(lowest);
    if (at < ranks.size()) ranks[at] = rank_at(at);
    if (at > 0) ranks[at - 1] = rank_at(at - 1);
  }
}

void MergeTable::ApplyByHeap(std::vector<int32_t>* ids, Scratch* scratch) const {
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  const auto count = static_cast<int32_t>(ids->size());
  symbols.clear();
  heap.clear();
  const auto candidate = [&](int32_t left, int32_t right) -> bool {
    const Merge* merge = Find(symbols[left].id, symbols[right].id);
    if (merge != nullptr) heap.push_back({merge->rank, left, merge->result});
    return merge != nullptr;
  };
  for (int32_t i = 0; i < count; ++i) symbols.push_back({(*ids)[i], i - 1, i + 1, true});
  for (int32_t i = 0; i + 1 < count; ++i) candidate(i, i + 1);
  std::make_heap(heap.begin(), heap.end(), IsLater);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), IsLater);
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = symbols[top.at];
    if (!left.alive || left.next == count) continue;
    Scratch::Symbol& right = symbols[left.next];
    // Either side may have grown since; then this pair is no more.
    const Merge* merge = Find(left.id, right.id);
    if (merge == nullptr || merge->result != top.result) continue;
    left.id = top.result;
    right.alive = false;
    left.next = right.next;
    if (left.next < count) symbols[left.next].previous = top.at;
    if (left.previous >= 0 && candidate(left.previous, top.at)) {
      std::push_heap(heap.begin(), heap.end(), IsLater);
    }
    if (left.next < count && candidate(top.at, left.next)) {
      std::push_heap(heap.begin(), heap.end(), IsLater);
    }
  }
  ids->clear();
  for (const Scratch::Symbol& symbol : symbols) {
    if (symbol.alive) ids->push_back(symbol.id);
  }
}

}  // namespace ballast
