#include "engine/rank.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "engine/model/rope.h"

namespace ballast {

Rank::Rank(const ModelConfig& config, const Device& device, const RankOptions& options)
    : config_(config),
      device_(device),
      options_(options),
      stream_(device.create_stream(options.threads)),
      rope_(ComputeRopeFrequencies(config.rope)) {
  for (const std::vector<int>& experts : options.slots) {
    std::vector<int32_t>& slots = slot_of_expert_.emplace_back(config.experts, -1);
    for (size_t slot = 0; slot < experts.size(); ++slot) {
      if (experts[slot] >= 0) slots[experts[slot]] = static_cast<int32_t>(slot);
    }
  }
}

Rank::~Rank() {
  for (const KvCache& cache : kv_) device_.release(cache.data, device_.kv_bytes(cache));
  if (buffers_.bytes > 0) device_.release(buffers_.hidden.data, buffers_.bytes);
  device_.destroy_stream(stream_);
}

absl::StatusOr<std::unique_ptr<Rank>> Rank::Create(
    const Checkpoint& checkpoint, const Device& device, const RankOptions& options,
    const std::function<void(size_t done, size_t total)>& progress) {
  const ModelConfig& config = checkpoint.config();
  std::unique_ptr<Rank> rank(new Rank(config, device, options));
  ASSIGN_OR_RETURN(rank->weights_, LoadWeights(checkpoint, config, options.slots, device,
                                               rank->stream_, options.compute, progress));
  RETURN_IF_ERROR(rank->AllocateBuffers());
  return rank;
}

absl::Status Rank::AllocateBuffers() {
  const size_t bytes = PlanWorkspace(config_, options_.compute, options_.sizes, nullptr).bytes;
  void* base = device_.allocate(bytes);
  if (base == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("workspace: no memory for ", bytes, " bytes"));
  }
  buffers_ = PlanWorkspace(config_, options_.compute, options_.sizes, base);
  for (int layer = 0; layer < config_.layers; ++layer) {
    KvCache cache = KvCacheShape(config_, options_.compute, options_.kv_blocks);
    cache.data = device_.allocate(device_.kv_bytes(cache));
    if (cache.data == nullptr) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "KV cache: no memory for ", device_.kv_bytes(cache), " bytes of layer ", layer));
    }
    kv_.push_back(cache);
  }
  return absl::OkStatus();
}

AttentionInputs Rank::Upload(const RankBatch& batch) {
  const auto upload = [&](auto* to, const auto& from) {
    device_.upload(stream_, to, from.data(), from.size() * sizeof(from[0]));
  };
  cos_sin_.resize(batch.positions.size() * config_.rope.dim);
  ComputeCosSin(rope_, batch.positions, cos_sin_.data());
  upload(buffers_.tokens, batch.tokens);
  upload(buffers_.kv_slots, batch.kv_slots);
  upload(buffers_.spans, batch.spans);
  upload(buffers_.block_tables, batch.block_tables);
  upload(buffers_.cos_sin, cos_sin_);
  const AttentionBatch spans{buffers_.spans, static_cast<int64_t>(batch.spans.size()),
                             buffers_.block_tables};
  return {spans, buffers_.kv_slots, buffers_.cos_sin};
}

void Rank::RunLayers(const RankBatch& batch, const AttentionInputs& inputs, RankResult& result) {
  const int64_t rows = batch.rows();
  const LayerContext context{device_, stream_, config_, buffers_, rows};
  const auto norm = [&](const float* weight) {
    const MatView normed = Rows(buffers_.normed, rows);
    device_.rms_norm(stream_, Rows(buffers_.hidden, rows), weight, config_.rms_norm_eps, normed);
    if (buffers_.x.data != buffers_.normed.data) {
      device_.convert(stream_, normed, Rows(buffers_.x, rows));
    }
  };
  const MoeRows moe_rows{Rows(buffers_.normed, rows), Rows(buffers_.x, rows),
                         Rows(buffers_.hidden, rows)};
  const int64_t k = config_.experts_per_token;
  const auto moe_layers = static_cast<int64_t>(MoeLayers(config_).size());
  result.routed.resize(rows * moe_layers * k);
  result.expert_rows.assign(moe_layers * config_.experts, 0);

  device_.embed(stream_, weights_->embedding, buffers_.tokens, Rows(buffers_.hidden, rows));
  int64_t moe_layer = 0;
  for (int layer = 0; layer < config_.layers; ++layer) {
    const LayerWeights& weights = weights_->layers[layer];
    norm(weights.input_norm);
    RunAttention(context, weights.attention, kv_[layer], inputs, groups_);
    norm(weights.post_attention_norm);
    if (config_.is_moe[layer]) {
      RunMoeLayer(device_, stream_, config_.router, weights.moe, slot_of_expert_[layer],
                  buffers_.moe, moe_rows, moe_);
      for (int64_t i = 0; i < rows * k; ++i) {
        const int32_t expert = moe_.ids[i];
        result.routed[(i / k * moe_layers + moe_layer) * k + i % k] = static_cast<uint16_t>(expert);
        ++result.expert_rows[moe_layer * config_.experts + expert];
      }
      ++moe_layer;
    } else {
      RunMlp(device_, stream_, weights.dense, moe_rows.x, buffers_.moe.mlp, moe_rows.hidden,
             /*accumulate=*/true);
    }
    heartbeat_.fetch_add(1, std::memory_order_relaxed);
  }
}

void Rank::SampleRows(const RankBatch& batch, RankResult& result) {
  const SampleContext context{batch.bias, batch.banned, batch.history};
  const int64_t vocab = config_.vocab_size;
  const auto total = static_cast<int64_t>(batch.samples.size());
  result.samples.resize(total);
  logits_.resize(options_.sizes.logit_rows * vocab);
  for (int64_t begin = 0; begin < total; begin += options_.sizes.logit_rows) {
    const int64_t rows = std::min(options_.sizes.logit_rows, total - begin);
    logit_rows_.resize(rows);
    for (int64_t i = 0; i < rows; ++i) logit_rows_[i] = batch.samples[begin + i].row;
    device_.upload(stream_, buffers_.logit_rows, logit_rows_.data(), rows * sizeof(int32_t));
    const MatView hidden = Rows(buffers_.logit_hidden, rows);
    const MatView logits = Rows(buffers_.logits, rows);
    device_.copy_rows(stream_, Rows(buffers_.hidden, batch.rows()), buffers_.logit_rows, hidden);
    device_.rms_norm(stream_, hidden, weights_->final_norm, config_.rms_norm_eps,
                     Rows(buffers_.logit_x, rows));
    const MatmulGroup head{&weights_->lm_head, 0, rows, 0, 0};
    device_.matmul(stream_, Rows(buffers_.logit_x, rows), &head, 1, logits, false);
    device_.download(stream_, logits_.data(), logits.data, rows * vocab * sizeof(float));
    device_.synchronize(stream_);
    for (int64_t i = 0; i < rows; ++i) {
      const std::span<const float> row(logits_.data() + i * vocab, vocab);
      result.samples[begin + i] = Sample(row, batch.samples[begin + i], context, sample_scratch_);
    }
    heartbeat_.fetch_add(1, std::memory_order_relaxed);
  }
}

void Rank::RunStep(const StepPlan& plan, RankResult& result) {
  const auto start = std::chrono::steady_clock::now();
  const RankBatch& batch = plan.ranks[options_.rank];
  RunLayers(batch, Upload(batch), result);
  SampleRows(batch, result);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace ballast
