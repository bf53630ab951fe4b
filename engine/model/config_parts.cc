#include "engine/model/config_parts.h"

#include <algorithm>
#include <cmath>

#include "engine/concat.h"

namespace ballast {

void ReadGroupedAttention(ConfigReader& reader, ModelConfig& config) {
  config.attention = AttentionKind::kGrouped;
  config.heads = reader.Int("num_attention_heads", kHeadRange);
  config.kv_heads = reader.IntOr("num_key_value_heads", config.heads, kHeadRange);
  if (config.heads % config.kv_heads != 0) {
    reader.Fail(Concat("num_attention_heads is ", config.heads,
                       ", not a multiple of num_key_value_heads ", config.kv_heads));
  }
  if (!reader.Has("head_dim") && config.hidden < config.heads) {
    reader.Fail(
        Concat("hidden_size is ", config.hidden, ", less than num_attention_heads ", config.heads));
  }
  config.head_dim =
      reader.IntOr("head_dim", std::max(config.hidden / config.heads, 1), kHeadDimRange);
  config.v_head_dim = config.head_dim;
  config.attention_scale = static_cast<float>(1.0 / std::sqrt(config.head_dim));
  config.rope.dim = config.head_dim;
}

void ReadSlidingWindow(ConfigReader& reader, ModelConfig& config) {
  config.sliding_window = reader.IntOr("sliding_window", 0, kPositionRange);
}

void ReadExperts(ConfigReader& reader, std::string_view width_key, ModelConfig& config) {
  config.experts =
      reader.IntOf({"num_experts", "num_local_experts", "n_routed_experts"}, kExpertRange);
  config.experts_per_token = reader.Int("num_experts_per_tok", kExpertRange);
  if (config.experts_per_token > config.experts) {
    reader.Fail(Concat("num_experts_per_tok is ", config.experts_per_token, ", more than the ",
                       config.experts, " experts"));
  }
  config.expert_intermediate = reader.Int(width_key, kWidthRange);
}

void ReadMlpLayerTypes(ConfigReader& reader, ModelConfig& config) {
  if (!reader.Has("mlp_layer_types")) return;
  const std::vector<std::string> types = reader.Strings("mlp_layer_types", kLayerRange.max);
  if (types.size() != config.is_moe.size()) {
    reader.Fail(Concat("mlp_layer_types has ", types.size(),
                       " entries, expected num_hidden_layers ", config.layers));
    return;
  }
  for (size_t i = 0; i < types.size(); ++i) {
    if (types[i] != "dense" && types[i] != "sparse") {
      reader.Fail(Concat("mlp_layer_types[", i, "] is \"", types[i].substr(0, 40),
                         "\", expected dense or sparse"));
    }
    config.is_moe[i] = types[i] == "sparse";
  }
}

}  // namespace ballast
