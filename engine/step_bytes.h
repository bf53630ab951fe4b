// Plans and results as bytes, for ranks that are other processes. Numbers lie as in memory: ranks
// that compute together run on processors of one kind (the join handshake sees to it).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/moe/placement.h"
#include "engine/status.h"
#include "engine/step.h"

namespace ballast {

// What a rank loads: the leader's word, whatever the rank's own options say.
struct LoadOrder {
  std::vector<LayerPlacement> placement;  // [layers]
  std::vector<int32_t> node;              // [ranks] or empty, as RanksParts
  int32_t slow_rank = -1;                 // for tests, as RanksParts
  double slowdown = 1;
};

// What rank `rank` needs of the plan: its own batch and what all share. Appended to `out`.
void AppendPlan(const StepPlan& plan, int rank, std::string& out);

// The plan of AppendPlan, with `ranks` batches of which only that of `rank` is filled. What comes
// back is safe to run on a model that the sender knows: arrays fit together and ranges lie inside
// them. INVALID_ARGUMENT names what does not.
absl::Status ParsePlan(std::string_view bytes, int rank, int ranks, StepPlan& plan);

void AppendResult(const RankResult& result, std::string& out);
// INVALID_ARGUMENT as above.
absl::Status ParseResult(std::string_view bytes, RankResult& result);

void AppendLoadOrder(const LoadOrder& order, std::string& out);
// INVALID_ARGUMENT when it is none; whether it fits the model is the caller's to ask.
absl::Status ParseLoadOrder(std::string_view bytes, LoadOrder& order);

}  // namespace ballast
