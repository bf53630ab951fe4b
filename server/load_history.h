// Expert load of the past, so that the load of a recent window can be told: snapshots, close
// together where they are recent and ever farther apart where they are old.
//
// Pure: time comes in as seconds of any clock that does not go back. One thread at a time.
#pragma once

#include <cstddef>
#include <deque>

#include "engine/balancing.h"

namespace ballast {

// later - earlier of one engine's snapshots: what happened between them. What is not cumulative is
// `later`'s. Layers, experts and ranks that `earlier` lacks count as 0 there.
ExpertLoad LoadBetween(const ExpertLoad& earlier, const ExpertLoad& later);

// The load of the `seconds` up to a snapshot.
struct WindowLoad {
  double seconds = 0;
  ExpertLoad load;
};

class LoadHistory {
 public:
  // At most as many seconds, and as many bytes of snapshots, are remembered; of layers and experts
  // without number, still two snapshots.
  static constexpr double kMaxWindow = 24 * 3600;
  static constexpr size_t kDefaultBytes = 32 << 20;
  // Snapshots that come sooner after the last one are not kept.
  static constexpr double kInterval = 1;

  // `start`: when the engine was new and every count 0.
  explicit LoadHistory(double start, size_t max_bytes = kDefaultBytes)
      : start_(start), max_bytes_(max_bytes) {}

  bool Due(double now) const;
  // Remembers a snapshot if one is due.
  void Add(double now, const ExpertLoad& load);

  // The load of at least the last `window` seconds, of at most an eighth and two intervals more
  // while memory allows; since the start for 0, or when that is later. `latest`: a snapshot of now.
  WindowLoad Window(double now, const ExpertLoad& latest, double window) const;

  size_t snapshots() const { return snapshots_.size(); }
  size_t bytes() const;

 private:
  struct Snapshot {
    double time = 0;
    ExpertLoad load;
  };
  void Thin(double now, size_t capacity);

  double start_;
  size_t max_bytes_;
  std::deque<Snapshot> snapshots_;  // oldest first
};

}  // namespace ballast
