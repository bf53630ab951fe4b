// What joins the processes of a world: a mesh for each kind of traffic, so that none waits for
// another and none dies with another, and heartbeats that say who is lost.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/comm/communicator.h"
#include "engine/comm/gloo.h"
#include "engine/comm/gloo_channel.h"
#include "engine/comm/gloo_heartbeat.h"
#include "engine/comm/gloo_mesh.h"
#include "engine/comm/gloo_weights.h"
#include "engine/comm/nccl.h"
#include "engine/process_group.h"
#include "engine/status.h"

namespace ballast {

// What leader and ranks say to each other over the plans' mesh.
enum class PlanMessage : uint32_t {
  kLoad = 1,    // leader: a LoadOrder
  kLoaded,      // rank: done
  kStep,        // leader: a plan
  kResult,      // rank: its share of the result
  kStop,        // leader: all is over
  kStopped,     // rank: understood
  kFailed = 16  // rank: why, after a status code
};

class ProcessLinks {
 public:
  // Connects to all other ranks and begins to watch them. Collective. `device`, which outlives the
  // links, has the memory that rows and weights lie in.
  static absl::StatusOr<std::unique_ptr<ProcessLinks>> Connect(const ProcessGroup& group,
                                                               const Device& device);
  ~ProcessLinks();

  const ProcessGroup& group() const { return group_; }
  StampedCommunicator& rows() { return *rows_; }
  // The same, and what carries lent weights, for who owns its own; the links outlive them.
  std::unique_ptr<Communicator> LendRows();
  std::unique_ptr<WeightExchange> LendWeights();
  GlooMesh& plans() { return *plans_; }
  GlooMesh& migration() { return *migration_; }

  // Somebody is lost or something broke: every wait on any mesh ends with `why`. The first counts.
  // Any thread.
  void Fail(const absl::Status& why);
  // Any thread.
  absl::Status failure() const;
  // Which rank is lost, if heartbeats say so within `limit`; else `seen`, what an exchange said.
  absl::Status Explain(const absl::Status& seen, std::chrono::milliseconds limit) const;

  // Nobody counts as lost from now on: the end has come.
  void Part() { heartbeat_->Deafen(); }
  // Ends the others' waits for rows of this rank, while all else goes on. No step may come after.
  void CloseRows();

 private:
  explicit ProcessLinks(const ProcessGroup& group) : group_(group) {}
  absl::Status ConnectRows(const Meeting& meeting, const Device& device);
  absl::Status ConnectWeights(const Meeting& meeting, const Device& device);
  absl::Status ConnectNccl(const Device& device);

  const ProcessGroup group_;
  std::unique_ptr<GlooMesh> plans_;
  std::unique_ptr<GlooMesh> migration_;
  std::unique_ptr<GlooMesh> weights_;          // null: over NCCL
  std::unique_ptr<WeightExchange> lending_;    // over weights_, or NCCL
  std::unique_ptr<StampedCommunicator> rows_;  // null: closed
  mutable std::mutex mutex_;
  mutable std::condition_variable failed_;
  absl::Status failure_;                      // guarded by mutex_
  std::unique_ptr<GlooHeartbeat> heartbeat_;  // last: it uses all the others
};

}  // namespace ballast
