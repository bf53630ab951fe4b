#include "engine/step_bytes.h"

#include "absl/strings/str_cat.h"
#include "engine/bytes.h"

namespace ballast {
// What travels of each struct, in order; the one list that writing and reading share.
template <typename Bytes>
void Fields(Bytes& b, Range& v) {
  b(v.begin, v.end);
}
template <typename Bytes>
void Fields(Bytes& b, TokenBias& v) {
  b(v.token, v.bias);
}
template <typename Bytes>
void Fields(Bytes& b, TokenCount& v) {
  b(v.token, v.output_count);
}
template <typename Bytes>
void Fields(Bytes& b, AttentionSpan& v) {
  b(v.row_begin, v.rows, v.first_position, v.table_begin);
}
template <typename Bytes>
void Fields(Bytes& b, SampleRow& v) {
  b(v.row, v.position, v.target, v.logprobs, v.temperature, v.top_p, v.top_k, v.min_p);
  b(v.repetition_penalty, v.frequency_penalty, v.presence_penalty, v.seed, v.output_index);
  b(v.bias, v.banned, v.history);
}
template <typename Bytes>
void Fields(Bytes& b, RankBatch& v) {
  b(v.tokens, v.positions, v.kv_slots, v.spans, v.block_tables, v.samples, v.bias, v.banned,
    v.history);
}
template <typename Bytes>
void Fields(Bytes& b, LayerPlacement& v) {
  b(v.ranks, v.slots_per_rank, v.slot_expert);
}
template <typename Bytes>
void Fields(Bytes& b, LayerChange& v) {
  b(v.layer, v.placement);
}
template <typename Bytes>
void Fields(Bytes& b, LoadOrder& v) {
  b(v.placement, v.node, v.slow_rank, v.slowdown);
}
template <typename Bytes>
void Fields(Bytes& b, CostParameters& v) {
  b(v.version, v.mode, v.tile_rows, v.tile_cost, v.floor_cost, v.import_cost, v.export_cost);
  b(v.max_imports, v.speed, v.force_spills);
}
template <typename Bytes>
void Fields(Bytes& b, TokenLogprobs& v) {
  b(v.token, v.logprob, v.rank, v.top);
}
template <typename Bytes>
void Fields(Bytes& b, Sampled& v) {
  b(v.token, v.logprobs);
}
template <typename Bytes>
void Fields(Bytes& b, ExpertTiming& v) {
  b(v.live_experts, v.tiles, v.seconds);
}
template <typename Bytes>
void Fields(Bytes& b, LayerBalance& v) {
  b(v.spilled_rows, v.imports, v.rows_over_bound, v.value);
}
template <typename Bytes>
void Fields(Bytes& b, RankResult& v) {
  b(v.samples, v.routed, v.expert_rows, v.run_rows, v.timings, v.balance, v.wait_seconds,
    v.seconds);
}

namespace {

bool Inside(Range range, size_t size) {
  return range.begin >= 0 && range.begin <= range.end && range.end <= static_cast<int64_t>(size);
}

absl::Status Misfit(const char* what) {
  return absl::InvalidArgumentError(absl::StrCat("plan: ", what));
}

absl::Status CheckSpans(const RankBatch& batch) {
  const auto tables = static_cast<int64_t>(batch.block_tables.size());
  int64_t next = 0;
  for (const AttentionSpan& span : batch.spans) {
    const int64_t end = int64_t{span.first_position} + span.rows;
    if (span.rows < 1 || span.row_begin < 0 || span.row_begin > batch.rows() - span.rows) {
      return Misfit("a span lies outside the batch's rows");
    }
    if (span.row_begin < next) return Misfit("spans are not in the order of their rows");
    next = span.row_begin + span.rows;
    const int64_t blocks = (end + kKvBlockTokens - 1) / kKvBlockTokens;
    if (span.first_position < 0 || span.table_begin < 0 || span.table_begin > tables - blocks) {
      return Misfit("a span's block table lies outside the batch's");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBatch(const RankBatch& batch) {
  const size_t rows = batch.tokens.size();
  if (batch.positions.size() != rows || batch.kv_slots.size() != rows) {
    return Misfit("tokens, positions and KV slots differ in number");
  }
  RETURN_IF_ERROR(CheckSpans(batch));
  for (const SampleRow& sample : batch.samples) {
    if (sample.row < 0 || sample.row >= batch.rows()) return Misfit("a sample has no row");
    if (!Inside(sample.bias, batch.bias.size()) || !Inside(sample.banned, batch.banned.size()) ||
        !Inside(sample.history, batch.history.size())) {
      return Misfit("a sample's bias, banned tokens or history lie outside the batch's");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPlan(const StepPlan& plan, int ranks) {
  const BalanceMode mode = plan.costs.mode;
  if (mode < BalanceMode::kOff || mode > BalanceMode::kSpill) {
    return Misfit("an unknown balance mode");
  }
  RETURN_IF_ERROR(Validate(plan.costs, ranks));
  for (const LayerChange& change : plan.changes) {
    const LayerPlacement& placement = change.placement;
    const auto slots = static_cast<int64_t>(placement.slot_expert.size());
    if (change.layer < 0 || placement.ranks != ranks || placement.slots_per_rank < 1 ||
        int64_t{placement.ranks} * placement.slots_per_rank != slots) {
      return Misfit("a placement is not one of this world");
    }
  }
  return absl::OkStatus();
}

}  // namespace

void AppendPlan(const StepPlan& plan, int rank, std::string& out) {
  AppendBytes(plan.step, out);
  AppendBytes(plan.placement_version, out);
  AppendBytes(plan.changes, out);
  AppendBytes(plan.costs, out);
  AppendBytes(plan.ranks[static_cast<size_t>(rank)], out);
}

absl::Status ParsePlan(std::string_view bytes, int rank, int ranks, StepPlan& plan) {
  ByteReader reader(bytes);
  plan.ranks.resize(static_cast<size_t>(ranks));
  RankBatch& batch = plan.ranks[static_cast<size_t>(rank)];
  reader(plan.step, plan.placement_version, plan.changes, plan.costs, batch);
  RETURN_IF_ERROR(reader.Finish("plan"));
  RETURN_IF_ERROR(CheckPlan(plan, ranks));
  return CheckBatch(batch);
}

void AppendResult(const RankResult& result, std::string& out) { AppendBytes(result, out); }

absl::Status ParseResult(std::string_view bytes, RankResult& result) {
  ByteReader reader(bytes);
  reader(result);
  return reader.Finish("result");
}

void AppendLoadOrder(const LoadOrder& order, std::string& out) { AppendBytes(order, out); }

absl::Status ParseLoadOrder(std::string_view bytes, LoadOrder& order) {
  ByteReader reader(bytes);
  reader(order);
  return reader.Finish("load order");
}

}  // namespace ballast
