// All ranks of this process, as the leader sees them.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/comm/communicator.h"
#include "engine/moe/placement.h"
#include "engine/rank.h"
#include "engine/status.h"
#include "engine/step.h"

namespace ballast {

// Rank 0 runs on the caller's thread, every other on a thread of its own that sleeps between steps.
class Ranks {
 public:
  // Loads all ranks, one after another. `placement` [layers] (dense layers are ignored) covers
  // `count` ranks; options.rank is ignored. `checkpoint` and `device` outlive the ranks.
  static absl::StatusOr<std::unique_ptr<Ranks>> Create(
      const Checkpoint& checkpoint, const Device& device, int count, const RankOptions& options,
      const std::vector<LayerPlacement>& placement, const CostParameters& costs,
      const std::function<void(size_t done, size_t total)>& progress);
  ~Ranks();

  int size() const { return static_cast<int>(ranks_.size()); }

  // Runs a step on all ranks and waits for them. An error of any of them is returned; no further
  // step can run then. One thread at a time.
  absl::Status RunStep(const StepPlan& plan, StepResult& result);

  // Sum over ranks; any thread.
  uint64_t heartbeat() const;

 private:
  Ranks() = default;
  void Serve(int rank);

  Balance balance_;
  std::vector<std::unique_ptr<Communicator>> comms_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::vector<absl::Status> statuses_;  // [ranks] of the last step

  std::mutex mutex_;
  std::condition_variable started_;
  std::condition_variable finished_;
  uint64_t step_ = 0;               // guarded by mutex_; grows with every step
  int busy_ = 0;                    // guarded by mutex_; threads that have not finished it
  bool stop_ = false;               // guarded by mutex_
  const StepPlan* plan_ = nullptr;  // of the current step
  StepResult* result_ = nullptr;
  std::vector<std::thread> threads_;  // [ranks - 1]
};

}  // namespace ballast
