// Tells a process that lives from one that is gone or silent, however long it computes: threads of
// its own say so to each other, beside everything else.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/comm/gloo_mesh.h"
#include "engine/status.h"

namespace ballast {

class GlooHeartbeat {
 public:
  // Between rank 0 and every other rank. A peer that was not heard for `silence`, or whose
  // connection broke, is lost: UNAVAILABLE names it. `on_loss` is called once, for the first one,
  // from a thread of the heartbeat's. Collective: all ranks give the same silence.
  GlooHeartbeat(std::unique_ptr<GlooMesh> mesh, std::chrono::milliseconds silence,
                std::function<void(const absl::Status&)> on_loss);
  // Ends at once; `on_loss` comes no more.
  ~GlooHeartbeat();

  // No loss is told from now on, while the others go on hearing this rank. Any thread.
  void Deafen();

 private:
  using Clock = std::chrono::steady_clock;
  struct Peer {
    int rank = 0;
    std::atomic<Clock::rep> heard{0};
  };

  void Beat(Peer& peer);
  void Watch();
  void Lose(const absl::Status& why);
  // Sleeps; false: the end has come.
  bool Sleep(std::chrono::milliseconds time);

  const std::unique_ptr<GlooMesh> mesh_;
  const std::chrono::milliseconds silence_;
  const std::chrono::milliseconds interval_;  // between two beats
  const std::function<void(const absl::Status&)> on_loss_;
  std::vector<std::unique_ptr<Peer>> peers_;

  std::mutex mutex_;
  std::condition_variable ended_;
  bool end_ = false;   // guarded by mutex_
  bool deaf_ = false;  // guarded by mutex_; held while on_loss runs
  std::vector<std::thread> threads_;
};

}  // namespace ballast
