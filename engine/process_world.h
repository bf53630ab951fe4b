// A world of processes, at its leader: rank 0 computes here, the others are told what to do and
// asked what came out (follower.h).
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/expert_mover.h"
#include "engine/process_links.h"
#include "engine/ranks.h"
#include "engine/world.h"

namespace ballast {

// Once a rank is lost, the step under way and every later one fail with UNAVAILABLE that names it.
class ProcessWorld final : public World {
 public:
  // Connects to the other ranks, lets all load and waits for them, however long that takes as long
  // as they are heard of. parts: `first` and `comms` are set here; placement counts for all ranks.
  static absl::StatusOr<std::unique_ptr<ProcessWorld>> Create(
      const ProcessGroup& group, RanksParts parts,
      const std::function<void(size_t done, size_t total)>& progress);
  // Tells the other ranks that all is over, and waits a little until they have understood.
  ~ProcessWorld() override;

  int size() const override { return links_->group().size; }
  absl::Status RunStep(const StepPlan& plan, StepResult& result) override;
  absl::Status Move(const SlotMove& move) override;
  absl::Status DropMoves() override;
  uint64_t heartbeat() const override { return ranks_->heartbeat(); }
  absl::Status failure() const override { return links_->failure(); }

 private:
  explicit ProcessWorld(std::unique_ptr<ProcessLinks> links);
  absl::Status Load(RanksParts parts,
                    const std::function<void(size_t done, size_t total)>& progress);
  absl::Status TryStep(const StepPlan& plan, StepResult& result);
  absl::StatusOr<ChannelMessage> Receive(GlooChannel& from, PlanMessage expected);
  absl::Status Broken(const absl::Status& seen);

  std::unique_ptr<ProcessLinks> links_;
  std::vector<GlooChannel> channels_;  // to rank 1, 2, ..
  std::unique_ptr<Ranks> ranks_;       // rank 0
  std::unique_ptr<ExpertMover> mover_;
  std::string bytes_;  // scratch
};

}  // namespace ballast
