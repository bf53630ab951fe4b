// A rank's weights, packed for its device. Owned by ModelWeights; views are freed with it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/checkpoint/checkpoint.h"
#include "engine/model/config.h"
#include "engine/moe/expert_weights.h"
#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

enum class Compute : uint8_t {
  kExact,  // float32 activations; weights keep their published precision
  kBF16,   // bf16 activations into matmuls and attention; f32 weights rounded, routers' excepted
};

struct AttentionWeights {
  PackedMatrix q_a;                  // [q_lora, hidden]; data is null without q_lora
  const float* q_a_norm = nullptr;   // [q_lora]
  PackedMatrix q;                    // [heads*head_dim, hidden or q_lora]
  PackedMatrix k;                    // [kv_heads*head_dim, hidden]      kGrouped
  PackedMatrix v;                    // [kv_heads*head_dim, hidden]      kGrouped
  const float* q_norm = nullptr;     // [head_dim] or [heads*head_dim]; null: none
  const float* k_norm = nullptr;     // [head_dim] or [kv_heads*head_dim]; null: none
  PackedMatrix kv_a;                 // [kv_lora + rope, hidden]         kLatent
  const float* kv_a_norm = nullptr;  // [kv_lora]
  // kv_b_proj cut by head and absorbed: query into the latent space, latent out to values.
  std::vector<PackedMatrix> k_absorb;  // heads x [kv_lora, nope] (transposed from the file)
  std::vector<PackedMatrix> v_absorb;  // heads x [v_head_dim, kv_lora]
  PackedMatrix o;                      // [hidden, heads*v_head_dim]
};

struct LayerWeights {
  const float* input_norm = nullptr;           // [hidden]
  const float* post_attention_norm = nullptr;  // [hidden]
  AttentionWeights attention;
  MlpWeights dense;  // layers that are not MoE
  MoeWeights moe;
};

// Everything else in here points into `memory`.
struct ModelWeights {
  PackedMatrix embedding;             // [vocab, hidden]
  PackedMatrix lm_head;               // [vocab, hidden]; the embedding itself when tied
  const float* final_norm = nullptr;  // [hidden]
  std::vector<LayerWeights> layers;
  size_t bytes = 0;  // resident after loading
  std::vector<std::shared_ptr<void>> memory;
};

// For each layer the experts to load, in slot order (-1: an empty slot, left null). Dense layers
// have an empty list.
using SlotExperts = std::vector<std::vector<int>>;

// Reads, checks and packs. Mapped pages of the checkpoint are given back to the system as they are
// used up. `progress(done, total)` is called with bytes, from this thread. Errors name the tensor,
// what was found and what was expected; RESOURCE_EXHAUSTED when memory ends.
absl::StatusOr<std::unique_ptr<ModelWeights>> LoadWeights(
    const Checkpoint& checkpoint, const ModelConfig& config, const SlotExperts& slot_experts,
    const Device& device, Stream stream, Compute compute,
    const std::function<void(size_t done, size_t total)>& progress);

}  // namespace ballast
