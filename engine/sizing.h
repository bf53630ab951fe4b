// From options and model facts to the sizes that the engine runs with, and whether they fit.
#pragma once

#include <cstdint>

#include "engine/model/config.h"
#include "engine/model/weights.h"
#include "engine/model/workspace.h"
#include "engine/options.h"
#include "engine/status.h"

namespace ballast {

struct EngineSizes {
  Compute compute = Compute::kBF16;
  int32_t max_context = 0;  // what is served; the KV memory can hold a sequence of that length
  int64_t kv_blocks = 0;
  size_t kv_bytes = 0;
  StepSizes step;
};

// `kv_block_bytes`: one block in all layers. INVALID_ARGUMENT names the option, what was found and
// what was expected. Pure.
absl::StatusOr<EngineSizes> ResolveSizes(const EngineOptions& options, const ModelConfig& config,
                                         size_t kv_block_bytes);

// "exact" or "bf16".
absl::StatusOr<Compute> ParseCompute(const std::string& name);

// KV bytes of one block in all layers.
size_t KvBlockBytes(const ModelConfig& config, Compute compute, const Device& device);

// RESOURCE_EXHAUSTED with every number when the sum is more than `available` in `where` ("memory",
// "memory of GPU 1"). Pure.
absl::Status CheckFits(size_t weights_bytes, size_t kv_bytes, size_t workspace_bytes,
                       size_t available, const std::string& where);

}  // namespace ballast
