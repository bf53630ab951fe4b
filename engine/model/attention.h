// The attention half of a transformer layer.
#pragma once

#include <vector>

#include "engine/model/config.h"
#include "engine/model/weights.h"
#include "engine/model/workspace.h"
#include "kernels/device.h"

namespace ballast {

// What a layer computes with: the rank's device, its buffers and the number of rows of this step.
struct LayerContext {
  const Device& device;
  Stream stream;
  const ModelConfig& config;
  Workspace& buffers;
  int64_t rows = 0;
};

// The step's sequences on the device.
struct AttentionInputs {
  AttentionBatch batch;
  const int32_t* kv_slots = nullptr;  // [rows]
  const float* cos_sin = nullptr;     // [rows, rope.dim]
};

// buffers.hidden += attention(buffers.x); writes the rows' keys and values into `cache`.
// `groups` is host scratch.
void RunAttention(const LayerContext& context, const AttentionWeights& weights,
                  const KvCache& cache, const AttentionInputs& inputs,
                  std::vector<MatmulGroup>& groups);

}  // namespace ballast
