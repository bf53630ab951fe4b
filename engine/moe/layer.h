// One mixture-of-experts layer: Route -> Dispatch -> RunExperts -> Combine.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/dispatch.h"
#include "engine/moe/expert_weights.h"
#include "kernels/device.h"

namespace ballast {

// Device buffers of the feed-forward half of a layer; part of the model's workspace. R = rows of a
// step, k = experts per token; "act" is f32 in exact compute, bf16 otherwise.
struct MoeBuffers {
  MatView mlp;                      // act [R, max(dense, shared intermediate)]
  MatView shared;                   // f32 [R, hidden]
  MatView router_logits;            // f32 [R, experts]
  int32_t* expert_ids = nullptr;    // [R, k]
  float* expert_weights = nullptr;  // [R, k]
  int32_t* source = nullptr;        // [R*k]
  int32_t* row_of = nullptr;        // [R*k]
  MatView expert_x;                 // act [R*k, hidden]
  MatView expert_h;                 // act [R*k, expert intermediate]
  MatView expert_y;                 // f32 [R*k, hidden]
};

// Host-side scratch; its vectors keep their capacity from step to step.
struct MoeScratch {
  std::vector<int32_t> ids;  // [rows * k] expert choices, best first
  ExpertRows rows;
  std::vector<GateUpGroup> gate_up;
  std::vector<MatmulGroup> down;
};

// What a feed-forward block reads and adds to: the rows of this step.
struct MoeRows {
  MatView normed;  // f32 [rows, hidden], what the router reads
  MatView x;       // act [rows, hidden], the same values, what the experts read
  MatView hidden;  // f32 [rows, hidden], the residual stream, added to
};

// rows.hidden += experts(rows.x), shared experts included. slot_of_expert [experts] says where in
// weights.slots an expert stands. Afterwards scratch.ids has the routing.
void RunMoeLayer(const Device& device, Stream stream, const RouterConfig& router,
                 const MoeWeights& weights, std::span<const int32_t> slot_of_expert,
                 const MoeBuffers& buffers, const MoeRows& rows, MoeScratch& scratch);

// out = down(silu(gate x) * up x), f32; with `accumulate`, out += it.
void RunMlp(const Device& device, Stream stream, const MlpWeights& weights, MatView x,
            MatView scratch, MatView out, bool accumulate);

// The first `rows` rows of a buffer.
inline MatView Rows(MatView buffer, int64_t rows) {
  buffer.rows = rows;
  return buffer;
}

}  // namespace ballast
