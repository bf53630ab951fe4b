// A rank: a device, its weights, its KV cache and its share of every step. A thread each or a
// process each; with one rank it runs on the engine's loop thread.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "engine/checkpoint/checkpoint.h"
#include "engine/model/weights.h"
#include "engine/status.h"
#include "engine/step.h"
#include "kernels/device.h"

namespace ballast {

struct RankOptions {
  int rank = 0;
  int threads = 1;
  Compute compute = Compute::kBF16;
  int64_t kv_blocks = 0;
  int max_rows = 0;     // rows of a step, at most
  int max_samples = 0;  // rows whose logits are held at once
  int max_context = 0;
};

class Rank;

// Loads the weights and plans the workspace; RunStep allocates nothing on the device.
absl::StatusOr<std::unique_ptr<Rank>> CreateRank(
    const Checkpoint& checkpoint, const Device& device, const RankOptions& options,
    const std::function<void(size_t done, size_t total)>& progress);

}  // namespace ballast
