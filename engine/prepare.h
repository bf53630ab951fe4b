// What Engine::Create and `inspect` both need to know before a weight is read.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "engine/checkpoint/checkpoint.h"
#include "engine/engine.h"
#include "engine/model/memory_plan.h"
#include "engine/model/weights.h"
#include "engine/moe/placement.h"
#include "engine/options.h"
#include "engine/sizing.h"
#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

struct PreparedModel {
  const Device* device = nullptr;
  int threads = 0;        // per rank
  int process_ranks = 1;  // that run in this process
  EngineSizes sizes;
  std::vector<LayerPlacement> placement;  // [layers]; dense layers have no slots
  std::vector<std::string> warnings;      // of reading the placement
  MemoryPlan plan;                        // of rank 0
  ModelInfo info;
  // Mapped and validated; UNIMPLEMENTED when config.json asks for what is not supported.
  absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint;
};

// Errors: the folder is no checkpoint (see Checkpoint::Open), or an option contradicts the model or
// this machine. Any thread.
absl::StatusOr<PreparedModel> PrepareModel(const EngineOptions& options);

// RESOURCE_EXHAUSTED with the numbers when the plan exceeds the memory that is free now, where the
// ranks of this process, from `first_rank` on, run.
absl::Status CheckFits(const PreparedModel& model, int first_rank = 0);

}  // namespace ballast
