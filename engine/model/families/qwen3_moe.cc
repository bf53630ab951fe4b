// Qwen3 MoE (arXiv 2505.09388): grouped-query attention with a norm on every head's query and key,
// softmax router.
#include "engine/model/config_parts.h"
#include "engine/model/families/family.h"

namespace ballast {
namespace {

void ReadMoeLayers(ConfigReader& reader, ModelConfig& config) {
  const int step = reader.IntOr("decoder_sparse_step", 1, {1, kLayerRange.max});
  for (int i = 0; i < config.layers; ++i) {
    config.is_moe[static_cast<size_t>(i)] = (i + 1) % step == 0;
  }
  for (int layer : reader.Ints("mlp_only_layers", {0, kLayerRange.max}, kLayerRange.max)) {
    if (layer < config.layers) config.is_moe[static_cast<size_t>(layer)] = false;
  }
  ReadMlpLayerTypes(reader, config);
}

void ReadConfig(ConfigReader& reader, ModelConfig& config) {
  ReadGroupedAttention(reader, config);
  config.qk_norm = QkNorm::kPerHead;
  if (reader.BoolOr("use_sliding_window", false)) ReadSlidingWindow(reader, config);
  ReadExperts(reader, "moe_intermediate_size", config);
  config.dense_intermediate = reader.IntOr("intermediate_size", 0, kWidthRange);
  ReadMoeLayers(reader, config);
  config.router.normalize = reader.BoolOr("norm_topk_prob", false);
}

}  // namespace

const Family kQwen3Moe = {
    .model_type = "qwen3_moe",
    .default_rms_norm_eps = 1e-6f,
    .default_max_position_embeddings = 32'768,
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
