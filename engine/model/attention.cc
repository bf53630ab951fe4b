#include "engine/model/attention.h"

namespace ballast {
namespace {

HeadsView Heads(const MatView& m, int64_t rows, int64_t heads) {
  const int64_t dim = m.cols / heads;
  return {m.data, m.type, rows, m.stride, heads, dim, dim};
}

// Entries [begin, begin + dim) of every head.
HeadsView Slice(HeadsView view, int64_t begin, int64_t dim) {
  view.data = static_cast<char*>(view.data) + begin * static_cast<int64_t>(SizeOf(view.type));
  view.dim = dim;
  return view;
}

MatView Columns(MatView m, int64_t cols) {
  m.cols = cols;
  return m;
}

void Project(const LayerContext& c, MatView x, const PackedMatrix& weight, MatView out,
             bool accumulate = false) {
  const MatmulGroup group{&weight, 0, c.rows, 0, 0};
  c.device.matmul(c.stream, Rows(x, c.rows), &group, 1, Rows(out, c.rows), accumulate);
}

// RMS norm over each head or over the whole row, as the weights' family has it.
void NormHeads(const LayerContext& c, MatView m, const float* weight) {
  if (weight == nullptr) return;
  if (c.config.qk_norm == QkNorm::kPerHead) {
    const int64_t dim = c.config.head_dim;
    m = {m.data, m.type, c.rows * m.cols / dim, dim, dim};
  } else {
    m = Rows(m, c.rows);
  }
  c.device.rms_norm(c.stream, m, weight, c.config.rms_norm_eps, m);
}

void GroupedAttention(const LayerContext& c, const AttentionWeights& weights, const KvCache& cache,
                      const AttentionInputs& in) {
  const Workspace& w = c.buffers;
  const ModelConfig& config = c.config;
  Project(c, w.x, weights.q, w.q);
  Project(c, w.x, weights.k, w.k);
  Project(c, w.x, weights.v, w.v);
  NormHeads(c, w.q, weights.q_norm);
  NormHeads(c, w.k, weights.k_norm);
  if (config.clip_qkv > 0) {
    for (const MatView& m : {w.q, w.k, w.v}) {
      c.device.clamp(c.stream, Rows(m, c.rows), config.clip_qkv);
    }
  }
  const HeadsView k = Heads(w.k, c.rows, config.kv_heads);
  const HeadsView q = Heads(w.q_act, c.rows, config.heads);
  c.device.rope(c.stream, Heads(w.q, c.rows, config.heads), in.cos_sin, config.rope.dim, false, q);
  c.device.rope(c.stream, k, in.cos_sin, config.rope.dim, false, k);
  c.device.write_kv(c.stream, cache, k, Heads(w.v, c.rows, config.kv_heads), in.kv_slots);
  c.device.attention(c.stream, cache, q, in.batch, config.attention_scale, config.sliding_window,
                     /*sinks=*/nullptr, Heads(w.attn, c.rows, config.heads));
}

// One small product per head: out's head h = x's head h * weights[h]^T.
void ProjectHeads(const LayerContext& c, MatView x, const std::vector<PackedMatrix>& weights,
                  int64_t x_stride, int64_t out_stride, MatView out,
                  std::vector<MatmulGroup>& groups) {
  groups.clear();
  for (size_t h = 0; h < weights.size(); ++h) {
    const auto head = static_cast<int64_t>(h);
    groups.push_back({&weights[h], 0, c.rows, head * x_stride, head * out_stride});
  }
  c.device.matmul(c.stream, Rows(x, c.rows), groups.data(), static_cast<int64_t>(groups.size()),
                  Rows(out, c.rows), false);
}

// DeepSeek's multi-head latent attention (DeepSeek-V2, section 2.1) with kv_b_proj absorbed into
// queries and outputs, for prefill and decode alike: all heads attend to one latent per token.
void LatentAttention(const LayerContext& c, const AttentionWeights& weights, const KvCache& cache,
                     const AttentionInputs& in, std::vector<MatmulGroup>& groups) {
  const Workspace& w = c.buffers;
  const ModelConfig& config = c.config;
  const int64_t lora = config.kv_lora_rank;
  const int64_t nope = config.qk_nope_head_dim;
  const int64_t rope = config.qk_rope_head_dim;

  MatView q_in = w.x;
  if (weights.q_a.data != nullptr) {
    Project(c, w.x, weights.q_a, w.q_a);
    q_in = w.q_a_act;
    c.device.rms_norm(c.stream, Rows(w.q_a, c.rows), weights.q_a_norm, config.latent_norm_eps,
                      Rows(q_in, c.rows));
  }
  Project(c, q_in, weights.q, w.q);

  Project(c, w.x, weights.kv_a, w.kv_a);
  c.device.rms_norm(c.stream, Columns(Rows(w.kv_a, c.rows), lora), weights.kv_a_norm,
                    config.latent_norm_eps, Columns(Rows(w.latent, c.rows), lora));
  const HeadsView latent = Heads(w.latent, c.rows, 1);
  c.device.rope(c.stream, Slice(Heads(w.kv_a, c.rows, 1), lora, rope), in.cos_sin, rope,
                config.rope.interleaved, Slice(latent, lora, rope));
  c.device.write_kv(c.stream, cache, latent, HeadsView{}, in.kv_slots);

  if (w.q_act.data != w.q.data) {
    c.device.convert(c.stream, Rows(w.q, c.rows), Rows(w.q_act, c.rows));
  }
  ProjectHeads(c, w.q_act, weights.k_absorb, nope + rope, lora + rope, w.q_latent, groups);
  const HeadsView q_latent = Heads(w.q_latent, c.rows, config.heads);
  c.device.rope(c.stream, Slice(Heads(w.q, c.rows, config.heads), nope, rope), in.cos_sin, rope,
                config.rope.interleaved, Slice(q_latent, lora, rope));
  c.device.attention(c.stream, cache, q_latent, in.batch, config.attention_scale,
                     config.sliding_window, /*sinks=*/nullptr,
                     Heads(w.attn_latent, c.rows, config.heads));
  ProjectHeads(c, w.attn_latent, weights.v_absorb, lora, config.v_head_dim, w.attn, groups);
}

}  // namespace

void RunAttention(const LayerContext& context, const AttentionWeights& weights,
                  const KvCache& cache, const AttentionInputs& inputs,
                  std::vector<MatmulGroup>& groups) {
  if (context.config.attention == AttentionKind::kLatent) {
    LatentAttention(context, weights, cache, inputs, groups);
  } else {
    GroupedAttention(context, weights, cache, inputs);
  }
  Project(context, context.buffers.attn, weights.o, context.buffers.hidden, /*accumulate=*/true);
}

}  // namespace ballast
