// What a model folder holds and what serving it takes, found out without reading a weight.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/model/memory_plan.h"
#include "engine/options.h"
#include "engine/status.h"

namespace ballast {

struct ModelInspection {
  ModelInfo info;  // as the engine would give it
  MemoryPlan plan;
  size_t kv_bytes = 0;  // of the whole KV cache
  int threads = 0;
  std::vector<std::string> warnings;  // of reading the placement
  absl::Status fits;  // RESOURCE_EXHAUSTED with the numbers when the plan exceeds free memory
};

// A model that the engine refuses as unsupported is answered, with plan.unsupported saying why.
// Errors: the folder is no checkpoint (see Checkpoint::Open), or an option contradicts the model or
// this machine. Any thread.
absl::StatusOr<ModelInspection> InspectModel(const EngineOptions& options);

}  // namespace ballast
