#include "engine/model/weight_list.h"

#include <numeric>
#include <string_view>

#include "engine/concat.h"

namespace ballast {
namespace {

// "mlp.experts.#.w1.weight" with the expert's number in place of '#'.
std::string ExpertName(std::string_view pattern, int expert) {
  const size_t mark = pattern.find('#');
  return Concat(pattern.substr(0, mark), expert, pattern.substr(mark + 1));
}

class Lister {
 public:
  Lister(const ModelConfig& config, const ExpertNames& names) : config_(config), names_(names) {}

  void Model(const SlotExperts& slot_experts, ModelWeights& weights);
  std::vector<WeightSource> TakeList() { return std::move(list_); }

 private:
  void Vector(std::string_view name, int64_t size, const float** out);
  WeightSource& Matrix(std::string_view name, int64_t rows, int64_t cols, PackedMatrix* out);
  void Layer(int number, const std::vector<int>& slots, LayerWeights& layer);
  void Grouped(AttentionWeights& attention);
  void Latent(AttentionWeights& attention);
  void Absorbed(AttentionWeights& attention);
  void Mlp(std::string_view prefix, int64_t width, MlpWeights& mlp);
  void Moe(const std::vector<int>& slots, MoeWeights& moe);
  void Experts(const std::vector<int>& slots, MoeWeights& moe);
  void FusedExperts(const std::vector<int>& slots, MoeWeights& moe);

  const ModelConfig& config_;
  const ExpertNames& names_;
  std::string prefix_;  // "model.layers.3."
  std::vector<WeightSource> list_;
};

void Lister::Vector(std::string_view name, int64_t size, const float** out) {
  WeightSource source;
  source.tensor = Concat(prefix_, name);
  source.shape = {size};
  source.rows = size;
  source.cols = 1;
  source.row_stride = 1;
  source.vector = out;
  list_.push_back(std::move(source));
}

WeightSource& Lister::Matrix(std::string_view name, int64_t rows, int64_t cols, PackedMatrix* out) {
  WeightSource source;
  source.tensor = Concat(prefix_, name);
  source.shape = {rows, cols};
  source.rows = rows;
  source.cols = cols;
  source.row_stride = cols;
  source.matrix = out;
  list_.push_back(std::move(source));
  return list_.back();
}

void Lister::Grouped(AttentionWeights& attention) {
  const int64_t hidden = config_.hidden;
  const int64_t q_size = int64_t{config_.heads} * config_.head_dim;
  const int64_t kv_size = int64_t{config_.kv_heads} * config_.head_dim;
  Matrix("self_attn.q_proj.weight", q_size, hidden, &attention.q);
  Matrix("self_attn.k_proj.weight", kv_size, hidden, &attention.k);
  Matrix("self_attn.v_proj.weight", kv_size, hidden, &attention.v);
  Matrix("self_attn.o_proj.weight", hidden, q_size, &attention.o);
  if (config_.qk_norm == QkNorm::kNone) return;
  const bool per_head = config_.qk_norm == QkNorm::kPerHead;
  Vector("self_attn.q_norm.weight", per_head ? config_.head_dim : q_size, &attention.q_norm);
  Vector("self_attn.k_norm.weight", per_head ? config_.head_dim : kv_size, &attention.k_norm);
}

// kv_b_proj [heads * (nope + v), kv_lora] holds per head K_nope, then V. The keys' part is
// transposed, so that a query goes into the latent space as x * weight^T.
void Lister::Absorbed(AttentionWeights& attention) {
  const int64_t latent = config_.kv_lora_rank;
  const int64_t nope = config_.qk_nope_head_dim;
  const int64_t values = config_.v_head_dim;
  const std::vector<int64_t> shape = {config_.heads * (nope + values), latent};
  attention.k_absorb.resize(static_cast<size_t>(config_.heads));
  attention.v_absorb.resize(static_cast<size_t>(config_.heads));
  for (int head = 0; head < config_.heads; ++head) {
    const size_t index = static_cast<size_t>(head);
    const int64_t first_row = head * (nope + values);
    WeightSource& k =
        Matrix("self_attn.kv_b_proj.weight", latent, nope, &attention.k_absorb[index]);
    k.shape = shape;
    k.offset = first_row * latent;
    k.row_stride = 1;
    k.col_stride = latent;
    WeightSource& v =
        Matrix("self_attn.kv_b_proj.weight", values, latent, &attention.v_absorb[index]);
    v.shape = shape;
    v.offset = (first_row + nope) * latent;
  }
}

void Lister::Latent(AttentionWeights& attention) {
  const int64_t hidden = config_.hidden;
  const int64_t q_size = int64_t{config_.heads} * config_.head_dim;
  if (config_.q_lora_rank > 0) {
    Matrix("self_attn.q_a_proj.weight", config_.q_lora_rank, hidden, &attention.q_a);
    Vector("self_attn.q_a_layernorm.weight", config_.q_lora_rank, &attention.q_a_norm);
    Matrix("self_attn.q_b_proj.weight", q_size, config_.q_lora_rank, &attention.q);
  } else {
    Matrix("self_attn.q_proj.weight", q_size, hidden, &attention.q);
  }
  Matrix("self_attn.kv_a_proj_with_mqa.weight", config_.kv_lora_rank + config_.qk_rope_head_dim,
         hidden, &attention.kv_a);
  Vector("self_attn.kv_a_layernorm.weight", config_.kv_lora_rank, &attention.kv_a_norm);
  Absorbed(attention);
  Matrix("self_attn.o_proj.weight", hidden, int64_t{config_.heads} * config_.v_head_dim,
         &attention.o);
}

void Lister::Mlp(std::string_view prefix, int64_t width, MlpWeights& mlp) {
  Matrix(Concat(prefix, "gate_proj.weight"), width, config_.hidden, &mlp.gate);
  Matrix(Concat(prefix, "up_proj.weight"), width, config_.hidden, &mlp.up);
  Matrix(Concat(prefix, "down_proj.weight"), config_.hidden, width, &mlp.down);
}

void Lister::Experts(const std::vector<int>& slots, MoeWeights& moe) {
  const int64_t width = config_.expert_intermediate;
  for (size_t slot = 0; slot < slots.size(); ++slot) {
    const int expert = slots[slot];
    if (expert < 0) continue;
    MlpWeights& mlp = moe.slots[slot];
    Matrix(ExpertName(names_.gate, expert), width, config_.hidden, &mlp.gate);
    Matrix(ExpertName(names_.up, expert), width, config_.hidden, &mlp.up);
    Matrix(ExpertName(names_.down, expert), config_.hidden, width, &mlp.down);
  }
}

void Lister::FusedExperts(const std::vector<int>& slots, MoeWeights& moe) {
  const int64_t width = config_.expert_intermediate;
  const int64_t hidden = config_.hidden;
  const int64_t size = width * hidden;
  const std::vector<int64_t> gate_up_shape = {config_.experts, 2 * width, hidden};
  const std::vector<int64_t> down_shape = {config_.experts, hidden, width};
  for (size_t slot = 0; slot < slots.size(); ++slot) {
    if (slots[slot] < 0) continue;
    WeightSource& gate = Matrix(names_.gate_up, width, hidden, &moe.slots[slot].gate);
    gate.shape = gate_up_shape;
    gate.offset = slots[slot] * 2 * size;
    WeightSource& up = Matrix(names_.gate_up, width, hidden, &moe.slots[slot].up);
    up.shape = gate_up_shape;
    up.offset = slots[slot] * 2 * size + size;
  }
  for (size_t slot = 0; slot < slots.size(); ++slot) {
    if (slots[slot] < 0) continue;
    WeightSource& down = Matrix(names_.down, hidden, width, &moe.slots[slot].down);
    down.shape = down_shape;
    down.offset = slots[slot] * size;
  }
}

void Lister::Moe(const std::vector<int>& slots, MoeWeights& moe) {
  Matrix(names_.router, config_.experts, config_.hidden, &moe.router).keeps_precision = true;
  if (config_.router_bias) Vector(names_.router_bias, config_.experts, &moe.router_bias);
  moe.slots.resize(slots.size());
  if (names_.gate_up != nullptr) {
    FusedExperts(slots, moe);
  } else {
    Experts(slots, moe);
  }
  if (config_.shared_intermediate > 0) {
    Mlp("mlp.shared_experts.", config_.shared_intermediate, moe.shared);
  }
}

void Lister::Layer(int number, const std::vector<int>& slots, LayerWeights& layer) {
  prefix_ = Concat("model.layers.", number, ".");
  Vector("input_layernorm.weight", config_.hidden, &layer.input_norm);
  if (config_.attention == AttentionKind::kLatent) {
    Latent(layer.attention);
  } else {
    Grouped(layer.attention);
  }
  Vector("post_attention_layernorm.weight", config_.hidden, &layer.post_attention_norm);
  if (config_.is_moe[static_cast<size_t>(number)]) {
    Moe(slots, layer.moe);
  } else {
    Mlp("mlp.", config_.dense_intermediate, layer.dense);
  }
}

void Lister::Model(const SlotExperts& slot_experts, ModelWeights& weights) {
  weights.layers.resize(static_cast<size_t>(config_.layers));
  Matrix("model.embed_tokens.weight", config_.vocab_size, config_.hidden, &weights.embedding);
  for (int i = 0; i < config_.layers; ++i) {
    const size_t index = static_cast<size_t>(i);
    Layer(i, slot_experts[index], weights.layers[index]);
  }
  prefix_.clear();
  Vector("model.norm.weight", config_.hidden, &weights.final_norm);
  if (!config_.tied_embeddings) {
    Matrix("lm_head.weight", config_.vocab_size, config_.hidden, &weights.lm_head);
  }
}

}  // namespace

const ExpertNames& ChooseLayout(const Family& family, const ModelConfig& config,
                                const Checkpoint* checkpoint) {
  const std::vector<int> moe_layers = MoeLayers(config);
  if (checkpoint == nullptr || moe_layers.empty()) return family.layouts[0];
  const std::string prefix = Concat("model.layers.", moe_layers[0], ".");
  for (const ExpertNames& names : family.layouts) {
    const std::string name = names.gate_up != nullptr ? names.gate_up : ExpertName(names.gate, 0);
    if (checkpoint->Find(Concat(prefix, name)) != nullptr) return names;
  }
  return family.layouts[0];
}

std::vector<WeightSource> ListWeights(const ModelConfig& config, const ExpertNames& names,
                                      const SlotExperts& slot_experts, ModelWeights& weights) {
  CHECK(slot_experts.size() == static_cast<size_t>(config.layers));
  Lister lister(config, names);
  lister.Model(slot_experts, weights);
  return lister.TakeList();
}

SlotExperts AllExperts(const ModelConfig& config) {
  SlotExperts slots(static_cast<size_t>(config.layers));
  for (int layer : MoeLayers(config)) {
    std::vector<int>& experts = slots[static_cast<size_t>(layer)];
    experts.resize(static_cast<size_t>(config.experts));
    std::iota(experts.begin(), experts.end(), 0);
  }
  return slots;
}

DType PackedType(DType type, Compute compute, bool keeps_precision) {
  const bool rounds = compute == Compute::kBF16 && !keeps_precision;
  return type == DType::kBF16 || rounds ? DType::kBF16 : DType::kF32;
}

}  // namespace ballast
