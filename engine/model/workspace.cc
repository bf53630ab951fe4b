#include "engine/model/workspace.h"

#include <algorithm>

namespace ballast {
namespace {

// Hands out aligned pieces of one block of memory.
class Arena {
 public:
  explicit Arena(void* base) : base_(static_cast<char*>(base)) {}

  void* Take(size_t bytes) {
    void* piece = base_ == nullptr ? nullptr : base_ + bytes_;
    bytes_ += AlignUp(bytes);
    return piece;
  }
  MatView Matrix(DType type, int64_t rows, int64_t cols) {
    return {Take(rows * cols * SizeOf(type)), type, rows, cols, cols};
  }
  template <typename T>
  T* Array(int64_t count) {
    return static_cast<T*>(Take(count * sizeof(T)));
  }
  size_t bytes() const { return bytes_; }

 private:
  char* base_;
  size_t bytes_ = 0;
};

void PlanAttention(const ModelConfig& c, DType act, int64_t rows, Arena& arena, Workspace& w) {
  const int64_t q_cols = int64_t{c.heads} * c.head_dim;
  const bool exact = act == DType::kF32;
  w.q = arena.Matrix(DType::kF32, rows, q_cols);
  w.q_act = exact ? w.q : arena.Matrix(act, rows, q_cols);
  w.attn = arena.Matrix(act, rows, int64_t{c.heads} * c.v_head_dim);
  if (c.attention == AttentionKind::kGrouped) {
    w.k = arena.Matrix(DType::kF32, rows, int64_t{c.kv_heads} * c.head_dim);
    w.v = arena.Matrix(DType::kF32, rows, int64_t{c.kv_heads} * c.head_dim);
    return;
  }
  const int64_t latent = c.kv_lora_rank + c.qk_rope_head_dim;
  if (c.q_lora_rank > 0) {
    w.q_a = arena.Matrix(DType::kF32, rows, c.q_lora_rank);
    w.q_a_act = exact ? w.q_a : arena.Matrix(act, rows, c.q_lora_rank);
  }
  w.kv_a = arena.Matrix(DType::kF32, rows, latent);
  w.latent = arena.Matrix(DType::kF32, rows, latent);
  w.q_latent = arena.Matrix(act, rows, c.heads * latent);
  w.attn_latent = arena.Matrix(act, rows, int64_t{c.heads} * c.kv_lora_rank);
}

void PlanFeedForward(const ModelConfig& c, DType act, int64_t rows, Arena& arena, MoeBuffers& w) {
  const bool any_dense = std::find(c.is_moe.begin(), c.is_moe.end(), false) != c.is_moe.end();
  w.mlp = arena.Matrix(act, rows,
                       std::max(any_dense ? c.dense_intermediate : 0, c.shared_intermediate));
  if (c.shared_intermediate > 0) w.shared = arena.Matrix(DType::kF32, rows, c.hidden);
  const auto moe_layers = static_cast<int64_t>(MoeLayers(c).size());
  const int64_t expert_rows = rows * c.experts_per_token;
  w.router_logits = arena.Matrix(DType::kF32, rows, c.experts);
  w.expert_ids = arena.Array<int32_t>(expert_rows * moe_layers);
  w.expert_weights = arena.Array<float>(expert_rows);
  w.rows = arena.Array<const void*>(expert_rows);
  w.expert_x = arena.Matrix(act, expert_rows, c.hidden);
  w.expert_h = arena.Matrix(act, expert_rows, c.expert_intermediate);
  w.expert_y = arena.Matrix(DType::kF32, expert_rows, c.hidden);
}

}  // namespace

Workspace PlanWorkspace(const ModelConfig& config, Compute compute, const StepSizes& sizes,
                        void* base) {
  const DType act = ActivationType(compute);
  const bool exact = compute == Compute::kExact;
  Arena arena(base);
  Workspace w;
  w.hidden = arena.Matrix(DType::kF32, sizes.rows, config.hidden);
  w.normed = arena.Matrix(DType::kF32, sizes.rows, config.hidden);
  w.x = exact ? w.normed : arena.Matrix(act, sizes.rows, config.hidden);
  PlanAttention(config, act, sizes.rows, arena, w);
  PlanFeedForward(config, act, sizes.rows, arena, w.moe);
  w.experts =
      arena.Array<MlpWeights>(static_cast<int64_t>(MoeLayers(config).size()) * config.experts);

  w.logit_rows = arena.Array<const void*>(sizes.logit_rows);
  w.logit_hidden = arena.Matrix(DType::kF32, sizes.logit_rows, config.hidden);
  w.logit_x = exact ? w.logit_hidden : arena.Matrix(act, sizes.logit_rows, config.hidden);
  w.logits = arena.Matrix(DType::kF32, sizes.logit_rows, config.vocab_size);

  // A row's bias and history name a token once; stop tokens and ends of text may coincide.
  w.side_entries = int64_t{2} * config.vocab_size;
  w.samples = arena.Array<SampleParameters>(sizes.logit_rows);
  w.sampled = arena.Array<int32_t>(sizes.logit_rows);
  w.bias = arena.Array<TokenBias>(w.side_entries);
  w.banned = arena.Array<int32_t>(w.side_entries);
  w.history = arena.Array<TokenCount>(w.side_entries);

  const int64_t blocks = (sizes.max_context + kKvBlockTokens - 1) / kKvBlockTokens;
  w.tokens = arena.Array<int32_t>(sizes.rows);
  w.kv_slots = arena.Array<int32_t>(sizes.rows);
  w.block_tables = arena.Array<int32_t>(sizes.sequences * blocks);
  w.spans = arena.Array<AttentionSpan>(sizes.sequences);
  w.cos_sin = arena.Array<float>(sizes.rows * config.rope.dim);
  w.bytes = arena.bytes();
  return w;
}

int64_t LogitRows(const ModelConfig& config, int64_t max_running) {
  constexpr int64_t kLogitBytes = 64 << 20;
  const int64_t fit = kLogitBytes / (int64_t{config.vocab_size} * 4);
  return std::clamp<int64_t>(fit, 8, std::max<int64_t>(8, max_running));
}

KvCache KvCacheShape(const ModelConfig& config, Compute compute, int64_t blocks) {
  KvCache cache;
  cache.type = ActivationType(compute);
  cache.blocks = blocks;
  if (config.attention == AttentionKind::kLatent) {
    cache.kv_heads = 1;
    cache.k_dim = config.kv_lora_rank + config.qk_rope_head_dim;
    cache.v_dim = config.kv_lora_rank;
    cache.v_in_k = true;
  } else {
    cache.kv_heads = config.kv_heads;
    cache.k_dim = config.head_dim;
    cache.v_dim = config.head_dim;
  }
  return cache;
}

}  // namespace ballast
