// DeepSeek-V3 and R1 (arXiv 2412.19437): latent attention, sigmoid router with a learned correction
// bias and group limits, shared experts, dense first layers.
#include <cmath>

#include "engine/concat.h"
#include "engine/model/config_parts.h"
#include "engine/model/families/family.h"

namespace ballast {
namespace {

void ReadLatentAttention(ConfigReader& reader, ModelConfig& config) {
  config.attention = AttentionKind::kLatent;
  config.heads = reader.Int("num_attention_heads", kHeadRange);
  config.kv_heads = config.heads;
  if (reader.IntOr("num_key_value_heads", config.heads, kHeadRange) != config.heads) {
    reader.Unsupported("num_key_value_heads other than num_attention_heads");
  }
  config.q_lora_rank = reader.IntOr("q_lora_rank", 0, kRankRange);
  config.kv_lora_rank = reader.Int("kv_lora_rank", kRankRange);
  config.qk_nope_head_dim = reader.Int("qk_nope_head_dim", kHeadDimRange);
  config.qk_rope_head_dim = reader.Int("qk_rope_head_dim", kHeadDimRange);
  config.v_head_dim = reader.Int("v_head_dim", kHeadDimRange);
  config.head_dim = config.qk_nope_head_dim + config.qk_rope_head_dim;
  config.attention_scale = static_cast<float>(1.0 / std::sqrt(config.head_dim));
  // Fixed in the reference code, whatever rms_norm_eps says.
  config.latent_norm_eps = 1e-6f;
  config.rope.dim = config.qk_rope_head_dim;
  config.rope.interleaved = reader.BoolOr("rope_interleave", true);
}

void ReadMoeLayers(ConfigReader& reader, ModelConfig& config) {
  const int first = reader.IntOr("first_k_dense_replace", 3, {0, kLayerRange.max});
  const std::vector<int> frequency =
      reader.Ints("moe_layer_freq", {0, kLayerRange.max}, kLayerRange.max);
  const bool is_list = frequency.size() > 1;
  if (is_list && frequency.size() != config.is_moe.size()) {
    reader.Fail(Concat("moe_layer_freq has ", frequency.size(),
                       " entries, expected num_hidden_layers ", config.layers));
    return;
  }
  const int every = frequency.size() == 1 ? frequency[0] : 1;
  if (every == 0) reader.Wrong("moe_layer_freq", "an integer from 1");
  for (int i = 0; i < config.layers; ++i) {
    const bool chosen =
        is_list ? frequency[static_cast<size_t>(i)] != 0 : every != 0 && i % every == 0;
    config.is_moe[static_cast<size_t>(i)] = i >= first && chosen;
  }
  ReadMlpLayerTypes(reader, config);
}

void ReadRouter(ConfigReader& reader, ModelConfig& config) {
  RouterConfig& router = config.router;
  router.score = RouterScore::kSigmoid;
  router.groups = reader.IntOr("n_group", 8, kExpertRange);
  router.topk_group = reader.IntOr("topk_group", 4, kExpertRange);
  router.normalize = reader.BoolOr("norm_topk_prob", true);
  router.normalize_epsilon = 1e-20f;
  router.scale = static_cast<float>(reader.NumberOr("routed_scaling_factor", 2.5, {0.0, 1e6}));
  config.router_bias = true;
  if (const std::string score = reader.StringOr("scoring_func", "sigmoid"); score != "sigmoid") {
    reader.Unsupported(Concat("scoring_func \"", score.substr(0, 40), "\""));
  }
  if (const std::string method = reader.StringOr("topk_method", "noaux_tc"); method != "noaux_tc") {
    reader.Unsupported(Concat("topk_method \"", method.substr(0, 40), "\""));
  }
}

void ReadConfig(ConfigReader& reader, ModelConfig& config) {
  ReadLatentAttention(reader, config);
  ReadExperts(reader, "moe_intermediate_size", config);
  config.dense_intermediate = reader.IntOr("intermediate_size", 0, kWidthRange);
  // Shared experts stand side by side in one set of matrices.
  const int shared = reader.IntOr("n_shared_experts", 1, {0, 64});
  config.shared_intermediate = shared * config.expert_intermediate;
  if (config.shared_intermediate > kWidthRange.max) {
    reader.Wrong("n_shared_experts", Concat("a whole width of at most ", kWidthRange.max));
  }
  ReadMoeLayers(reader, config);
  ReadRouter(reader, config);
}

}  // namespace

const Family kDeepseekV3 = {
    .model_type = "deepseek_v3",
    .default_rms_norm_eps = 1e-6f,
    .default_max_position_embeddings = 4096,
    .default_rope_theta = 10'000.0f,
    .read_config = ReadConfig,
    .layouts = {{.router = "mlp.gate.weight",
                 .router_bias = "mlp.gate.e_score_correction_bias",
                 .gate = "mlp.experts.#.gate_proj.weight",
                 .up = "mlp.experts.#.up_proj.weight",
                 .down = "mlp.experts.#.down_proj.weight"},
                {.router = "mlp.gate.weight",
                 .router_bias = "mlp.gate.e_score_correction_bias",
                 .gate_up = "mlp.experts.gate_up_proj",
                 .down = "mlp.experts.down_proj"}},
};

}  // namespace ballast
