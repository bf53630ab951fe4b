// OLMoE (arXiv 2409.02060): a norm over the whole query and key before the head split, optional
// clipping of queries, keys and values, softmax router.
#include "engine/model/config_parts.h"
#include "engine/model/families/family.h"

namespace ballast {
namespace {

void ReadConfig(ConfigReader& reader, ModelConfig& config) {
  ReadGroupedAttention(reader, config);
  config.qk_norm = QkNorm::kWhole;
  config.clip_qkv = static_cast<float>(reader.NumberOr("clip_qkv", 0.0, {0.0, 1e6}));
  ReadExperts(reader, "intermediate_size", config);
  config.router.normalize = reader.BoolOr("norm_topk_prob", false);
}

}  // namespace

const Family kOlmoe = {
    .model_type = "olmoe",
    .default_rms_norm_eps = 1e-5f,
    .default_max_position_embeddings = 4096,
    .default_rope_theta = 10'000.0f,
    .read_config = ReadConfig,
    .layouts = {{.router = "mlp.gate.weight",
                 .gate = "mlp.experts.#.gate_proj.weight",
                 .up = "mlp.experts.#.up_proj.weight",
                 .down = "mlp.experts.#.down_proj.weight"},
                {.router = "mlp.gate.weight",
                 .gate_up = "mlp.experts.gate_up_proj",
                 .down = "mlp.experts.down_proj"}},
};

}  // namespace ballast
