// Mixtral (arXiv 2401.04088): plain grouped-query attention, softmax router whose chosen weights
// always sum to one. Fused files rename the block that per-expert files call block_sparse_moe.
#include "engine/model/config_parts.h"
#include "engine/model/families/family.h"

namespace ballast {
namespace {

void ReadConfig(ConfigReader& reader, ModelConfig& config) {
  ReadGroupedAttention(reader, config);
  ReadSlidingWindow(reader, config);
  ReadExperts(reader, "intermediate_size", config);
  config.router.normalize = true;
}

}  // namespace

const Family kMixtral = {
    .model_type = "mixtral",
    .default_rms_norm_eps = 1e-5f,
    .default_max_position_embeddings = 131'072,
    .default_rope_theta = 1'000'000.0f,
    .read_config = ReadConfig,
    .layouts = {{.router = "block_sparse_moe.gate.weight",
                 .gate = "block_sparse_moe.experts.#.w1.weight",
                 .up = "block_sparse_moe.experts.#.w3.weight",
                 .down = "block_sparse_moe.experts.#.w2.weight"},
                {.router = "mlp.gate.weight",
                 .gate_up = "mlp.experts.gate_up_proj",
                 .down = "mlp.experts.down_proj"}},
};

}  // namespace ballast
