// The buffers of one rank's step, planned before anything is loaded: one allocation, no other in
// the step loop.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/model/config.h"
#include "engine/model/weights.h"
#include "engine/moe/layer.h"
#include "kernels/device.h"

namespace ballast {

// What bounds a step.
struct StepSizes {
  int64_t rows = 0;         // rows of a step
  int64_t logit_rows = 0;   // rows whose logits are held at once
  int64_t sequences = 0;    // spans of a step
  int64_t max_context = 0;  // tokens of a sequence
};

// R = rows; the activation type ("act") is f32 in exact compute, bf16 otherwise.
struct Workspace {
  MatView hidden;  // f32 [R, hidden], the residual stream
  MatView normed;  // f32 [R, hidden]
  MatView x;       // act [R, hidden]; `normed` itself in exact compute

  // Attention
  MatView q_a;          // f32 [R, q_lora]
  MatView q_a_act;      // act [R, q_lora]; `q_a` itself in exact compute
  MatView q;            // f32 [R, heads*head_dim]
  MatView q_act;        // act [R, heads*head_dim]; `q` itself in exact compute
  MatView k;            // f32 [R, kv_heads*head_dim]            kGrouped
  MatView v;            // f32 [R, kv_heads*head_dim]            kGrouped
  MatView kv_a;         // f32 [R, kv_lora + rope]               kLatent
  MatView latent;       // f32 [R, kv_lora + rope]               kLatent
  MatView q_latent;     // act [R, heads*(kv_lora + rope)]   kLatent
  MatView attn_latent;  // act [R, heads*kv_lora]            kLatent
  MatView attn;         // act [R, heads*v_head_dim]

  MoeBuffers moe;                 // expert_ids has one after another for all MoE layers
  MlpWeights* experts = nullptr;  // [MoE layers, experts] where each lies, of a rank alone

  // Logits, a tile of L = logit_rows at a time
  const void** logit_rows = nullptr;  // [L] where the rows of `hidden` lie
  MatView logit_hidden;               // f32 [L, hidden]
  MatView logit_x;                    // act [L, hidden]; `logit_hidden` itself in exact compute
  MatView logits;                     // f32 [L, vocab]

  // Sampling of such a tile; side arrays of as many of its rows at a time as fit
  SampleParameters* samples = nullptr;  // [L]
  int32_t* sampled = nullptr;           // [L] tokens
  int64_t side_entries = 0;             // 2 * vocab: one row has no more of each
  TokenBias* bias = nullptr;            // [side_entries]
  int32_t* banned = nullptr;            // [side_entries]
  TokenCount* history = nullptr;        // [side_entries]

  // The step's inputs on the device
  int32_t* tokens = nullptr;        // [R]
  int32_t* kv_slots = nullptr;      // [R]
  int32_t* block_tables = nullptr;  // [sequences * blocks of max_context]
  AttentionSpan* spans = nullptr;   // [sequences]
  float* cos_sin = nullptr;         // [R, rope dim]

  size_t bytes = 0;
};

// Type of what goes into matmuls and the KV cache.
constexpr DType ActivationType(Compute compute) {
  return compute == Compute::kExact ? DType::kF32 : DType::kBF16;
}

// Lays the buffers out from `base` (null to learn `bytes` alone).
Workspace PlanWorkspace(const ModelConfig& config, Compute compute, const StepSizes& sizes,
                        void* base);

// Rows of logits worth holding at once: all that draw, within 64 MiB, at least 8.
int64_t LogitRows(const ModelConfig& config, int64_t max_running);

// The shape of one layer's KV cache; `data` is left null.
KvCache KvCacheShape(const ModelConfig& config, Compute compute, int64_t blocks);

}  // namespace ballast
