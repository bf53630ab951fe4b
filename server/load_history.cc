#include "server/load_history.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ballast {
namespace {

// Gaps up to this share of their age, where memory allows: an hour ago, seven minutes.
constexpr double kFinestGap = 0.125;

template <typename Number>
std::vector<Number> Minus(std::vector<Number> later, const std::vector<Number>& earlier) {
  for (size_t i = 0; i < std::min(later.size(), earlier.size()); ++i) later[i] -= earlier[i];
  return later;
}

size_t BytesOf(const ExpertLoad& load) {
  size_t bytes = sizeof(load);
  for (const LayerLoad& layer : load.layers) {
    bytes += sizeof(layer) + (layer.expert_rows.size() + layer.rank_rows.size()) * sizeof(int64_t);
  }
  return bytes + (load.rank_wait_seconds.size() + load.rank_speed.size()) * sizeof(double);
}

}  // namespace

ExpertLoad LoadBetween(const ExpertLoad& earlier, const ExpertLoad& later) {
  ExpertLoad load = later;
  load.steps -= earlier.steps;
  load.tokens -= earlier.tokens;
  load.slot_moves -= earlier.slot_moves;
  load.rank_wait_seconds = Minus(std::move(load.rank_wait_seconds), earlier.rank_wait_seconds);
  for (size_t i = 0; i < std::min(load.layers.size(), earlier.layers.size()); ++i) {
    LayerLoad& layer = load.layers[i];
    layer.expert_rows = Minus(std::move(layer.expert_rows), earlier.layers[i].expert_rows);
    layer.rank_rows = Minus(std::move(layer.rank_rows), earlier.layers[i].rank_rows);
  }
  return load;
}

bool LoadHistory::Due(double now) const {
  return snapshots_.empty() || now - snapshots_.back().time >= kInterval;
}

void LoadHistory::Add(double now, const ExpertLoad& load) {
  if (!Due(now)) return;
  snapshots_.push_back({now, load});
  Thin(now, std::max<size_t>(max_bytes_ / BytesOf(load), 2));
}

// Drops a snapshot where the gap that it leaves is small for its age. Gaps of a share g of their
// age make about 2/g * ln(ages) snapshots, which says what share fits in the memory.
void LoadHistory::Thin(double now, size_t capacity) {
  const double gap = std::max(kFinestGap, 2 * std::log(kMaxWindow) / static_cast<double>(capacity));
  std::deque<Snapshot> kept;
  for (Snapshot& snapshot : snapshots_) {
    // `snapshot` follows the last two that were kept; the one between them and it may go.
    if (kept.size() >= 2) {
      const double left_open = snapshot.time - kept[kept.size() - 2].time;
      if (left_open <= (now - snapshot.time) * gap) kept.pop_back();
    }
    kept.push_back(std::move(snapshot));
  }
  snapshots_ = std::move(kept);
  // One older than the longest window may be its begin.
  while (snapshots_.size() > capacity ||
         (snapshots_.size() > 1 && now - snapshots_[1].time >= kMaxWindow)) {
    snapshots_.pop_front();
  }
}

WindowLoad LoadHistory::Window(double now, const ExpertLoad& latest, double window) const {
  if (window > 0 && now - window > start_) {
    const auto after = std::partition_point(
        snapshots_.begin(), snapshots_.end(),
        [&](const Snapshot& snapshot) { return snapshot.time <= now - window; });
    if (after != snapshots_.begin()) {
      const Snapshot& begin = *std::prev(after);
      return {now - begin.time, LoadBetween(begin.load, latest)};
    }
  }
  return {now - start_, latest};
}

size_t LoadHistory::bytes() const {
  size_t bytes = 0;
  for (const Snapshot& snapshot : snapshots_) bytes += BytesOf(snapshot.load);
  return bytes;
}

}  // namespace ballast
