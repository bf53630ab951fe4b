// One mixture-of-experts layer: Route -> Assign -> Dispatch -> RunExperts -> Combine.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/comm/communicator.h"
#include "engine/moe/assignment.h"
#include "engine/moe/cost_model.h"
#include "engine/moe/dispatch.h"
#include "engine/moe/expert_loans.h"
#include "engine/moe/expert_weights.h"
#include "engine/moe/split.h"
#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

// Device buffers of the feed-forward half of a layer; part of the model's workspace. R = rows of a
// step on all ranks together, k = experts per token; "act" is f32 in exact compute, bf16 otherwise.
struct MoeBuffers {
  MatView mlp;                      // act [R, max(dense, shared intermediate)]
  MatView shared;                   // f32 [R, hidden]
  MatView router_logits;            // f32 [R, experts]
  int32_t* expert_ids = nullptr;    // [R, k]
  float* expert_weights = nullptr;  // [R, k]
  const void** rows = nullptr;      // [R*k] where received rows lie, then where answers lie
  MatView expert_x;                 // act [R*k, hidden]
  MatView expert_h;                 // act [R*k, expert intermediate]
  MatView expert_y;                 // f32 [R*k, hidden]
};

// Host-side scratch; its vectors keep their capacity from step to step.
struct MoeScratch {
  std::vector<int32_t> ids;         // [rows * k] expert choices, best first
  std::vector<int32_t> counts;      // [experts] of this rank's rows
  std::vector<int32_t> all_counts;  // [ranks, experts]
  AssignScratch assign;
  Assignment assignment;
  SplitScratch split_scratch;
  RowSplit split;
  DispatchScratch dispatch;
  DispatchPlan plan;
  std::vector<const void*> received;
  std::vector<const void*> pointers;
  std::vector<GateUpGroup> gate_up;
  std::vector<MatmulGroup> down;
  ExpertTiming timing;      // of the last layer's experts on this rank
  double wait_seconds = 0;  // in exchanges; grows until the caller clears it
};

// What a rank's MoE layers share.
struct MoeRank {
  const Device& device;
  Stream stream;
  Communicator& comm;
  const RouterConfig& router;
  const CostParameters& costs;
  MoeBuffers buffers;
  MoeScratch& scratch;
  double slowdown = 1;           // for tests: experts take so many times as long
  ExpertLoans* loans = nullptr;  // how ranks of other processes lend experts; null: there are none
};

// One layer: where experts stand, and the weights of every rank's slots (a rank reads the weights
// of a spilled expert where they lie). Ranks of other processes are null.
struct MoeLayer {
  const Replicas& replicas;
  std::span<const MoeWeights* const> ranks;  // [ranks]; its own is complete, peers' have slots
  std::span<const MlpWeights> shapes;        // [experts] data is null; with MoeRank.loans
};

// What a feed-forward block reads and adds to: this rank's rows of the step.
struct MoeRows {
  MatView x;       // act [rows, hidden], what the experts read
  MatView hidden;  // f32 [rows, hidden], the residual stream, added to
};

// Gives the stream the choice of experts for each row of `normed` [rows, hidden], f32: into
// buffers.expert_ids and expert_weights.
void RouteRows(const MoeRank& rank, const MoeWeights& weights, MatView normed);

// rows.hidden += experts(rows.x), shared experts included, as RouteRows chose, where all experts
// stand on this rank's device. Only gives the stream work, the same for the same number of rows.
void RunTableLayer(const MoeRank& rank, const MoeWeights& weights, const ExpertTable& table,
                   const MoeRows& rows);

// The same, wherever experts stand. Collective: every
// rank calls it for the same layer, with no rows too. Afterwards scratch.ids has the routing of
// this rank's rows, and scratch.assignment, plan and timing tell what was decided and ran. Errors
// are the communicator's and the device's.
absl::Status RunMoeLayer(const MoeRank& rank, const MoeLayer& layer, const MoeRows& rows);

// out = down(silu(gate x) * up x), f32; with `accumulate`, out += it.
void RunMlp(const Device& device, Stream stream, const MlpWeights& weights, MatView x,
            MatView scratch, MatView out, bool accumulate);

// The first `rows` rows of a buffer.
inline MatView Rows(MatView buffer, int64_t rows) {
  buffer.rows = rows;
  return buffer;
}

}  // namespace ballast
