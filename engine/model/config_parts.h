// Parts of config.json that several families read alike, and the bounds of every size. The largest
// published models stay a factor of eight or more below each bound; together the bounds keep every
// count of parameters and bytes below 2^62.
#pragma once

#include "engine/model/config.h"
#include "engine/model/config_reader.h"

namespace ballast {

inline constexpr IntRange kLayerRange = {1, 10'000};
inline constexpr IntRange kHiddenRange = {1, 1 << 18};
inline constexpr IntRange kWidthRange = {1, 1 << 20};
inline constexpr IntRange kVocabRange = {1, 1 << 24};
inline constexpr IntRange kPositionRange = {1, 1 << 30};
inline constexpr IntRange kHeadRange = {1, 4096};
inline constexpr IntRange kHeadDimRange = {1, 4096};
inline constexpr IntRange kRankRange = {1, 1 << 16};
inline constexpr IntRange kExpertRange = {1, 4096};
inline constexpr int kMaxExpertsInAll = 1 << 18;  // layers x experts
inline constexpr int kMaxHeadsInAll = 1 << 18;    // layers x heads

// num_attention_heads, num_key_value_heads, head_dim: config.rope.dim and the scale follow.
void ReadGroupedAttention(ConfigReader& reader, ModelConfig& config);

// sliding_window, null for none.
void ReadSlidingWindow(ConfigReader& reader, ModelConfig& config);

// The number of experts (under any of its names), num_experts_per_tok, and `width_key`.
void ReadExperts(ConfigReader& reader, std::string_view width_key, ModelConfig& config);

// mlp_layer_types of transformers 5 overrides config.is_moe, when there.
void ReadMlpLayerTypes(ConfigReader& reader, ModelConfig& config);

// rope_parameters (transformers 5) or rope_theta and rope_scaling. Wants config.max_context.
void ReadRope(ConfigReader& reader, float default_theta, ModelConfig& config);

}  // namespace ballast
