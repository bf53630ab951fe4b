#include "engine/rank.h"

#include <algorithm>
#include <bit>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "engine/model/rope.h"
#include "engine/synchronize.h"

namespace ballast {
namespace {

bool AreAlike(const PackedMatrix& a, const PackedMatrix& b) {
  return a.type == b.type && a.n == b.n && a.k == b.k;
}
bool AreAlike(const MlpWeights& a, const MlpWeights& b) {
  return AreAlike(a.gate, b.gate) && AreAlike(a.up, b.up) && AreAlike(a.down, b.down);
}

// Of a layer in a step that only decodes, or the first of all that are one piece: what verbs it
// gives depends on nothing else.
uint64_t PieceKey(int layer, int64_t rows, int32_t max_keys) {
  return static_cast<uint64_t>(layer) << 48 | static_cast<uint64_t>(rows) << 32 |
         static_cast<uint32_t>(max_keys);
}

}  // namespace

Rank::Rank(const ModelConfig& config, const Device& device, const RankOptions& options,
           const Balance& balance, Communicator& comm)
    : config_(config),
      device_(device),
      options_(options),
      balance_(balance),
      comm_(comm),
      stream_(device.create_stream(options.unit, options.threads)),
      rope_(ComputeRopeFrequencies(config.rope)) {
  for (const bool is_moe : config.is_moe) moe_layer_.push_back(is_moe ? moe_layers_++ : -1);
}

Rank::~Rank() {
  for (const KvCache& cache : kv_) device_.release(cache.data, device_.kv_bytes(cache));
  if (buffers_.bytes > 0) device_.release(buffers_.hidden.data, buffers_.bytes);
  device_.destroy_stream(stream_);
}

absl::StatusOr<std::unique_ptr<Rank>> Rank::Create(
    const Checkpoint& checkpoint, const Device& device, const RankOptions& options,
    const std::vector<LayerPlacement>& placement, const Balance& balance, Communicator& comm,
    const std::function<void(size_t done, size_t total)>& progress) {
  const ModelConfig& config = checkpoint.config();
  std::unique_ptr<Rank> rank(new Rank(config, device, options, balance, comm));
  SlotExperts slots(config.layers);
  for (const int layer : MoeLayers(config)) {
    slots[layer] = ExpertsOfRank(placement[layer], options.rank);
  }
  ASSIGN_OR_RETURN(rank->weights_, LoadWeights(checkpoint, config, slots, device, rank->stream_,
                                               options.compute, progress));
  const int spares = SpareBuffers(slots, options.ranks);
  const ExpertBytes largest = LargestExpert(config, &checkpoint, device, options.compute);
  ASSIGN_OR_RETURN(rank->experts_, ExpertStore::Create(std::move(slots), spares, largest, device,
                                                       rank->stream_, *rank->weights_));
  RETURN_IF_ERROR(rank->AllocateBuffers());
  rank->MakeTables();
  return rank;
}

void Rank::Connect(std::span<const std::unique_ptr<Rank>> ranks) {
  peers_.assign(config_.layers, std::vector<const MoeWeights*>(options_.ranks, nullptr));
  for (int layer = 0; layer < config_.layers; ++layer) {
    for (const std::unique_ptr<Rank>& rank : ranks) {
      peers_[layer][rank->rank()] = &rank->weights_->layers[layer].moe;
    }
  }
}

absl::Status Rank::ConnectRemote(const Checkpoint& checkpoint, WeightExchange& exchange) {
  const ExpertBytes largest = LargestExpert(config_, &checkpoint, device_, options_.compute);
  ASSIGN_OR_RETURN(loans_, ExpertLoans::Create(exchange, device_, stream_, largest.sum()));
  shapes_ = ExpertShapes(config_, &checkpoint, options_.compute);
  return absl::OkStatus();
}

absl::Status Rank::AllocateBuffers() {
  const size_t bytes = PlanWorkspace(config_, options_.compute, options_.sizes, nullptr).bytes;
  void* base = device_.allocate(stream_, bytes);
  if (base == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("workspace: no memory for ", bytes, " bytes"));
  }
  buffers_ = PlanWorkspace(config_, options_.compute, options_.sizes, base);
  for (int layer = 0; layer < config_.layers; ++layer) {
    KvCache cache = KvCacheShape(config_, options_.compute, options_.kv_blocks);
    cache.data = device_.allocate(stream_, device_.kv_bytes(cache));
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
  AttentionBatch spans{buffers_.spans, static_cast<int64_t>(batch.spans.size()),
                       buffers_.block_tables};
  for (const AttentionSpan& span : batch.spans) {
    spans.max_keys = std::max(spans.max_keys, span.first_position + span.rows);
  }
  // A bound that stays the same for many steps, so that a device can keep their pieces.
  spans.max_keys = static_cast<int32_t>(
      std::bit_ceil(static_cast<uint32_t>(std::max(spans.max_keys, kAttentionPartition))));
  return {spans, buffers_.kv_slots, buffers_.cos_sin};
}

// What the host can reach it plans itself, and measures.
void Rank::MakeTables() {
  if (comm_.size() > 1 || device_.host_memory || options_.slowdown > 1) return;
  std::vector<ExpertTable> tables(config_.layers);
  for (const int layer : MoeLayers(config_)) {
    ExpertTable& table = tables[layer];
    table.experts = buffers_.experts + int64_t{moe_layer_[layer]} * config_.experts;
    table.count = config_.experts;
    for (const MlpWeights& slot : weights_->layers[layer].moe.slots) {
      if (slot.gate.data == nullptr) continue;
      if (table.shape.gate.data == nullptr) table.shape = slot;
      if (!AreAlike(slot, table.shape) || slot.gate.type != slot.up.type) return;
    }
  }
  tables_ = std::move(tables);
  for (const int layer : MoeLayers(config_)) UploadTable(layer);
}

void Rank::UploadTable(int layer) {
  std::vector<MlpWeights> list(config_.experts);
  for (int expert = 0; expert < config_.experts; ++expert) {
    if (const MlpWeights* held = experts_->Find(layer, expert)) list[expert] = *held;
  }
  device_.upload(stream_, buffers_.experts + int64_t{moe_layer_[layer]} * config_.experts,
                 list.data(), list.size() * sizeof(MlpWeights));
}

absl::Status Rank::AdoptExperts(int layer, std::span<const int32_t> experts) {
  RETURN_IF_ERROR(experts_->Adopt(layer, experts));
  if (!tables_.empty()) UploadTable(layer);
  return absl::OkStatus();
}

MoeRank Rank::AsMoeRank(int layer, int64_t rows) {
  MoeBuffers buffers = buffers_.moe;
  buffers.expert_ids += moe_layer_[layer] * rows * config_.experts_per_token;
  return {device_, stream_,           comm_,       config_.router, balance_.costs, buffers,
          moe_,    options_.slowdown, loans_.get()};
}

// A layer up to where ranks exchange rows; one whose experts are all here to its end.
void Rank::GiveLayer(int layer, int64_t rows, const AttentionInputs& inputs) {
  const LayerWeights& weights = weights_->layers[layer];
  const MatView hidden = Rows(buffers_.hidden, rows);
  const MatView normed = Rows(buffers_.normed, rows);
  const MatView x = Rows(buffers_.x, rows);
  const auto norm = [&](const float* weight) {
    device_.rms_norm(stream_, hidden, weight, config_.rms_norm_eps, normed);
    if (x.data != normed.data) device_.convert(stream_, normed, x);
  };
  norm(weights.input_norm);
  RunAttention({device_, stream_, config_, buffers_, rows}, weights.attention, kv_[layer], inputs,
               groups_);
  norm(weights.post_attention_norm);
  if (moe_layer_[layer] < 0) {
    RunMlp(device_, stream_, weights.dense, x, buffers_.moe.mlp, hidden, /*accumulate=*/true);
    return;
  }
  const MoeRank rank = AsMoeRank(layer, rows);
  RouteRows(rank, weights.moe, normed);
  if (!tables_.empty()) RunTableLayer(rank, weights.moe, tables_[layer], {x, hidden});
}

absl::Status Rank::RunExperts(int layer, int64_t rows, RankResult& result) {
  MoeLayer own_layer{balance_.layers[layer], peers_[layer], {}};
  if (loans_ != nullptr) own_layer.shapes = shapes_[layer];
  RETURN_IF_ERROR(RunMoeLayer(AsMoeRank(layer, rows), own_layer,
                              {Rows(buffers_.x, rows), Rows(buffers_.hidden, rows)}));
  RecordRouting(moe_layer_[layer], moe_.ids, result);
  RecordMoeLayer(moe_layer_[layer], result);
  return absl::OkStatus();
}

void Rank::RecordRouting(int moe_layer, std::span<const int32_t> ids, RankResult& result) const {
  const int64_t k = config_.experts_per_token;
  for (int64_t i = 0; i < static_cast<int64_t>(ids.size()); ++i) {
    result.routed[(i / k * moe_layers_ + moe_layer) * k + i % k] = static_cast<uint16_t>(ids[i]);
    ++result.expert_rows[int64_t{moe_layer} * config_.experts + ids[i]];
  }
}

// Nothing was decided, and no time measured: a rank alone has nothing to balance.
absl::Status Rank::RecordTableLayers(int64_t rows, RankResult& result) {
  RETURN_IF_ERROR(Synchronize(device_, stream_));
  const size_t choices = rows * config_.experts_per_token;
  const std::span<const int32_t> ids(moe_.ids);
  for (int layer = 0; layer < moe_layers_; ++layer) {
    RecordRouting(layer, ids.subspan(layer * choices, choices), result);
    result.run_rows[layer] = static_cast<int64_t>(choices);
    result.timings[layer] = {};
    result.balance[layer] = {};
  }
  return absl::OkStatus();
}

void Rank::RecordMoeLayer(int moe_layer, RankResult& result) const {
  const Assignment& decided = moe_.assignment;
  LayerBalance& balance = result.balance[moe_layer];
  balance = {};
  for (const Spill& spill : decided.spills) balance.spilled_rows += spill.rows;
  balance.imports = static_cast<int64_t>(decided.spills.size());
  balance.value = decided.value;
  if (decided.bound_kind != BoundKind::kNone) {
    balance.rows_over_bound = decided.gap() / balance_.costs.tile_cost * balance_.costs.tile_rows;
  }
  result.run_rows[moe_layer] = static_cast<int64_t>(moe_.plan.order.size());
  result.timings[moe_layer] = moe_.timing;
}

absl::Status Rank::RunLayers(const RankBatch& batch, const AttentionInputs& inputs,
                             RankResult& result) {
  const int64_t rows = batch.rows();
  const bool decodes = rows > 0 && rows == inputs.batch.num_spans;
  result.routed.resize(rows * moe_layers_ * config_.experts_per_token);
  result.expert_rows.assign(int64_t{moe_layers_} * config_.experts, 0);
  result.run_rows.resize(moe_layers_);
  result.timings.resize(moe_layers_);
  result.balance.resize(moe_layers_);
  moe_.wait_seconds = 0;

  device_.embed(stream_, weights_->embedding, buffers_.tokens, Rows(buffers_.hidden, rows));
  const int together = tables_.empty() ? 1 : config_.layers;  // layers of a piece
  for (int first = 0; first < config_.layers; first += together) {
    if (!decodes || !device_.replay(stream_, PieceKey(first, rows, inputs.batch.max_keys))) {
      for (int i = 0; i < together; ++i) GiveLayer(first + i, rows, inputs);
      if (decodes) device_.end_piece(stream_);
    }
    if (tables_.empty() && moe_layer_[first] >= 0) {
      RETURN_IF_ERROR(RunExperts(first, rows, result));
    }
    heartbeat_.fetch_add(1, std::memory_order_relaxed);
  }
  if (!tables_.empty()) {
    moe_.ids.resize(moe_layers_ * rows * config_.experts_per_token);
    device_.download(stream_, moe_.ids.data(), buffers_.moe.expert_ids,
                     moe_.ids.size() * sizeof(int32_t));
  }
  return absl::OkStatus();
}

absl::Status Rank::SampleRows(const RankBatch& batch, RankResult& result) {
  const auto total = static_cast<int64_t>(batch.samples.size());
  result.samples.resize(total);
  for (int64_t begin = 0; begin < total; begin += options_.sizes.logit_rows) {
    const int64_t rows = std::min(options_.sizes.logit_rows, total - begin);
    logit_rows_.resize(rows);
    for (int64_t i = 0; i < rows; ++i) {
      logit_rows_[i] = static_cast<const float*>(buffers_.hidden.data) +
                       batch.samples[begin + i].row * buffers_.hidden.stride;
    }
    device_.upload(stream_, buffers_.logit_rows, logit_rows_.data(), rows * sizeof(void*));
    const MatView hidden = Rows(buffers_.logit_hidden, rows);
    const MatView logits = Rows(buffers_.logits, rows);
    device_.copy_rows(stream_, buffers_.logit_rows, hidden);
    device_.rms_norm(stream_, hidden, weights_->final_norm, config_.rms_norm_eps,
                     Rows(buffers_.logit_x, rows));
    const MatmulGroup head{&weights_->lm_head, 0, rows, 0, 0};
    device_.matmul(stream_, Rows(buffers_.logit_x, rows), &head, 1, logits, false);
    const std::span<Sampled> sampled(result.samples.data() + begin, rows);
    RETURN_IF_ERROR(SampleTile(device_, stream_, buffers_, batch, begin, sampling_, sampled));
    heartbeat_.fetch_add(1, std::memory_order_relaxed);
  }
  return absl::OkStatus();
}

absl::Status Rank::RunStep(const StepPlan& plan, RankResult& result) {
  const auto start = std::chrono::steady_clock::now();
  const RankBatch& batch = plan.ranks[options_.rank];
  RETURN_IF_ERROR(RunLayers(batch, Upload(batch), result));
  RETURN_IF_ERROR(SampleRows(batch, result));
  if (!tables_.empty()) RETURN_IF_ERROR(RecordTableLayers(batch.rows(), result));
  result.wait_seconds = moe_.wait_seconds;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return absl::OkStatus();
}

}  // namespace ballast
