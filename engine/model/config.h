// What a checkpoint's config.json says, in one form for all families. Facts about the model only;
// nothing here comes from a flag.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

enum class AttentionKind : uint8_t {
  kGrouped,  // multi-head and grouped-query: keys and values cached per kv head
  kLatent,   // DeepSeek's MLA: one latent per token cached
};

// Where RMS norms stand on queries and keys, before RoPE.
enum class QkNorm : uint8_t { kNone, kPerHead, kWhole };

enum class RopeScaling : uint8_t { kNone, kLinear, kYarn, kLlama3 };

struct RopeConfig {
  float theta = 10000.0f;
  int dim = 0;  // rotary entries of a head; the rest is not rotated
  bool interleaved = false;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  int original_max_position = 0;
  // yarn
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double mscale = 0.0;
  double mscale_all_dim = 0.0;
  double attention_factor = 0.0;  // 0: derived from the two above
  bool truncate = true;
  // llama3
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
};

struct ModelConfig {
  std::string model_type;  // "deepseek_v3"
  DType published_type = DType::kBF16;
  int layers = 0;
  int hidden = 0;
  int vocab_size = 0;
  int max_context = 0;  // max_position_embeddings
  float rms_norm_eps = 1e-6f;
  bool tied_embeddings = false;

  // Attention. For kLatent head_dim is nope + rope and kv_heads is heads.
  AttentionKind attention = AttentionKind::kGrouped;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float attention_scale = 0.0f;  // what scores are multiplied by, yarn's m^2 included
  QkNorm qk_norm = QkNorm::kNone;
  float clip_qkv = 0.0f;   // 0: no clipping
  int sliding_window = 0;  // 0: none
  RopeConfig rope;
  // kLatent only
  int q_lora_rank = 0;  // 0: plain q_proj
  int kv_lora_rank = 0;
  int qk_nope_head_dim = 0;
  int qk_rope_head_dim = 0;
  int v_head_dim = 0;  // kGrouped: equal to head_dim
  float latent_norm_eps = 1e-6f;

  // Feed-forward
  int dense_intermediate = 0;
  int experts = 0;
  int experts_per_token = 0;
  int expert_intermediate = 0;
  int shared_intermediate = 0;  // 0: no shared expert; else its whole width
  std::vector<bool> is_moe;     // [layers]
  RouterConfig router;          // experts and k repeated there
  bool router_bias = false;     // e_score_correction_bias is present

  std::vector<int32_t> eos_token_ids;  // generation_config.json first, then config.json
  int32_t bos_token_id = -1;           // -1: none

  // What the file asks for and the forward pass does not do, by field name; empty: all is done.
  std::vector<std::string> unsupported;
};

// Reads the text of a config.json, old or transformers 5 keys, with transformers' defaults for
// absent keys. INVALID_ARGUMENT for bad JSON, a model_type that has no family, and values of a
// wrong type or out of range; the message names the field, what was found and what was expected.
// Every size in the result is bounded, so that products of a few of them fit 64 bits.
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json);

// Layer numbers of the MoE layers, ascending.
std::vector<int> MoeLayers(const ModelConfig& config);

// Rotary frequencies [rope.dim / 2] after scaling, and what cosines and sines are multiplied by.
// In float32 as transformers computes them (modeling_rope_utils.py); YaRN: arXiv 2309.00071.
struct RopeFrequencies {
  std::vector<float> inverse;  // [dim / 2]
  float magnitude = 1.0f;
};
RopeFrequencies ComputeRopeFrequencies(const RopeConfig& rope);

}  // namespace ballast
