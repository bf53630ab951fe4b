// Ranks as threads of this process: all of the world, or those of its ranks that live here.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/comm/communicator.h"
#include "engine/comm/weight_exchange.h"
#include "engine/moe/placement.h"
#include "engine/rank.h"
#include "engine/status.h"
#include "engine/step.h"
#include "engine/world.h"

namespace ballast {

// What ranks are made of; all that is pointed to outlives them.
struct RanksParts {
  const Checkpoint* checkpoint = nullptr;
  const Device* device = nullptr;
  RankOptions options;  // of every rank; `rank` is ignored
  int first = 0;        // the ranks here are [first, first + comms.size())
  std::vector<std::unique_ptr<Communicator>> comms;
  // One for each of comms where ranks cannot read each other's memory; else none.
  std::vector<std::unique_ptr<WeightExchange>> weights;
  std::vector<LayerPlacement> placement;  // [layers] dense layers are ignored
  std::vector<int32_t> node;              // [world] equal labels share a machine, or empty
  int slow_rank = -1;                     // for tests: options.slowdown is its alone
};

// Communicators of `ranks` threads for RanksParts.
std::vector<std::unique_ptr<Communicator>> ThreadCommunicators(int ranks);

// The first rank here runs on the caller's thread, every other on a thread of its own that sleeps
// between steps.
class Ranks : public World {
 public:
  // Loads the ranks, one after another.
  static absl::StatusOr<std::unique_ptr<Ranks>> Create(
      RanksParts parts, const std::function<void(size_t done, size_t total)>& progress);
  ~Ranks() override;

  // Of the world.
  int size() const override { return parts_.options.ranks; }
  // Runs the ranks that are here; result.ranks [world] gets theirs.
  absl::Status RunStep(const StepPlan& plan, StepResult& result) override;
  // Both ranks must be here.
  absl::Status Move(const SlotMove& move) override;
  absl::Status DropMoves() override;
  uint64_t heartbeat() const override;

  // One that is here, by its number in the world.
  Rank& rank(int number) { return *ranks_[static_cast<size_t>(number - parts_.first)]; }

 private:
  explicit Ranks(RanksParts parts);
  absl::Status TakeChanges(const StepPlan& plan);
  void Serve(size_t index);
  absl::Status RunRank(size_t index);

  RanksParts parts_;
  Balance balance_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::vector<absl::Status> statuses_;  // [ranks here] of the last step
  std::vector<Stream> copies_;          // [ranks here] of Move, on the rank that gives; or none

  std::mutex mutex_;
  std::condition_variable started_;
  std::condition_variable finished_;
  uint64_t step_ = 0;               // guarded by mutex_; grows with every step
  size_t busy_ = 0;                 // guarded by mutex_; threads that have not finished it
  bool stop_ = false;               // guarded by mutex_
  const StepPlan* plan_ = nullptr;  // of the current step
  StepResult* result_ = nullptr;
  std::vector<std::thread> threads_;  // [ranks here - 1]
};

}  // namespace ballast
