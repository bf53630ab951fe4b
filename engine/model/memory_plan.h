// What serving a model takes, known before any weight is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/checkpoint/checkpoint.h"
#include "engine/model/config.h"
#include "engine/model/weights.h"
#include "kernels/device.h"

namespace ballast {

// Plain facts, for `inspect`, GetModelInfo and the decision whether a model fits.
struct MemoryPlan {
  // As the checkpoint holds them: tied embeddings once, multi-token-prediction layers not at all.
  int64_t parameters = 0;
  int64_t active_parameters = 0;  // parameters - (experts - k) experts in every MoE layer
  size_t weights_bytes = 0;       // resident after packing; what LoadWeights allocates
  size_t kv_bytes_per_token = 0;  // over all layers
  size_t workspace_bytes = 0;     // of a step, as given
  // Config keys and tensors for which `serve` would refuse; a long list is cut short.
  std::vector<std::string> unsupported;
};

// The plan of one rank that holds the experts of `slot_experts` (AllExperts for one rank alone).
// With a checkpoint every tensor's own type counts and missing or ill-shaped tensors are listed as
// unsupported; without (null) all are taken to have the config's published type. Pure: reads
// headers that are in memory already, no weights.
MemoryPlan PlanMemory(const ModelConfig& config, const Checkpoint* checkpoint,
                      const SlotExperts& slot_experts, const Device& device, Compute compute,
                      size_t workspace_bytes);

// Bytes that one token takes in the caches of all layers.
size_t KvBytesPerToken(const ModelConfig& config, const Device& device, Compute compute);

}  // namespace ballast
