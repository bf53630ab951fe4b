// Placements as files: Ballast's own YAML, TensorRT-LLM's load balancer configuration (YAML or
// JSON) and SGLang's --init-expert-location (JSON). docs/placement.md shows them.
//
// Sources: TensorRT-LLM examples/wide_ep/ep_load_balancer (MoeLoadBalancerConfig); SGLang
// srt/eplb/expert_location.py (compute_initial_expert_location_metadata).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/moe/placement.h"
#include "engine/status.h"

namespace ballast {

inline constexpr int kMaxSlotsPerRank = 4096;

// What a placement has to fit.
struct PlacementShape {
  int layers = 0;
  std::vector<int> moe_layers;  // ascending
  int experts = 0;
  int ranks = 1;
  int slots_per_rank = 0;  // 0: what the file says or needs, else ceil(experts / ranks)
};

struct ModelPlacement {
  // [layers]; dense layers have no slots. The others have equally many and pass ValidatePlacement.
  std::vector<LayerPlacement> layers;
  std::vector<std::string> warnings;  // one line each, beginning with the file's name
};

// Every MoE layer even. INVALID_ARGUMENT when slots_per_rank is too few.
absl::StatusOr<ModelPlacement> EvenModelPlacement(const PlacementShape& shape);

// Reads a placement of any format; which one is seen from its keys. MoE layers that the file leaves
// out are even, with a warning. With more slots per rank in `shape` than in the file the rest stay
// empty. In TensorRT-LLM's and SGLang's files an expert that stands on its rank already becomes an
// empty slot, with a warning; in Ballast's own that is an error. Errors are INVALID_ARGUMENT and
// name `name`, the layer, rank and expert, what was found and what was expected. Pure.
absl::StatusOr<ModelPlacement> ParsePlacement(std::string_view text, const std::string& name,
                                              const PlacementShape& shape);

}  // namespace ballast
