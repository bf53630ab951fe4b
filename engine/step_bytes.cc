#include "engine/step_bytes.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "absl/strings/str_cat.h"

namespace ballast {
namespace {

template <typename T>
concept Number = std::is_arithmetic_v<T> || std::is_enum_v<T>;

// What travels of each struct, in order; the one list that writing and reading share.
template <typename Bytes>
void Fields(Bytes& b, Range& v) {
  b(v.begin, v.end);
}
template <typename Bytes>
void Fields(Bytes& b, TokenCount& v) {
  b(v.token, v.output_count);
}
template <typename Bytes>
void Fields(Bytes& b, std::pair<int32_t, float>& v) {
  b(v.first, v.second);
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

class Writer {
 public:
  explicit Writer(std::string& out) : out_(out) {}

  template <typename... T>
  void operator()(T&... values) {
    (Put(values), ...);
  }

 private:
  void PutBytes(const void* data, size_t bytes) {
    if (bytes > 0) out_.append(static_cast<const char*>(data), bytes);
  }
  template <Number T>
  void Put(T& value) {
    PutBytes(&value, sizeof(value));
  }
  template <typename T>
  requires(!Number<T>) void Put(T& value) { Fields(*this, value); }
  template <typename T>
  void Put(std::optional<T>& value) {
    bool present = value.has_value();
    Put(present);
    if (present) Put(*value);
  }
  template <typename T>
  void Put(std::vector<T>& values) {
    uint64_t count = values.size();
    Put(count);
    if constexpr (Number<T>) {
      PutBytes(values.data(), count * sizeof(T));
    } else {
      for (T& value : values) Put(value);
    }
  }

  std::string& out_;
};

// Bytes that a value takes at least: with empty arrays. So that a count can be checked before
// memory is taken for it.
template <typename T>
size_t LeastBytes() {
  static const size_t bytes = [] {
    std::string out;
    T value{};
    Writer writer(out);
    writer(value);
    return out.size();
  }();
  return bytes;
}

class Reader {
 public:
  explicit Reader(std::string_view bytes) : left_(bytes) {}

  template <typename... T>
  void operator()(T&... values) {
    (Get(values), ...);
  }

  bool ok() const { return ok_; }
  size_t left() const { return left_.size(); }

 private:
  void GetBytes(void* to, size_t bytes) {
    if (bytes > left_.size()) {
      ok_ = false;
      left_ = {};
      return;
    }
    if (bytes > 0) std::memcpy(to, left_.data(), bytes);
    left_.remove_prefix(bytes);
  }
  template <Number T>
  void Get(T& value) {
    GetBytes(&value, sizeof(value));
  }
  // Any byte but 0 and 1 would be undefined as a bool.
  void Get(bool& value) {
    uint8_t byte = 0;
    Get(byte);
    ok_ = ok_ && byte <= 1;
    value = byte == 1;
  }
  template <typename T>
  requires(!Number<T>) void Get(T& value) { Fields(*this, value); }
  template <typename T>
  void Get(std::optional<T>& value) {
    bool present = false;
    Get(present);
    value.reset();
    if (present) Get(value.emplace());
  }
  template <typename T>
  void Get(std::vector<T>& values) {
    uint64_t count = 0;
    Get(count);
    if (count > left_.size() / LeastBytes<T>()) {
      ok_ = false;
      left_ = {};
      count = 0;
    }
    values.resize(count);
    if constexpr (Number<T>) {
      GetBytes(values.data(), count * sizeof(T));
    } else {
      for (T& value : values) Get(value);
    }
  }

  std::string_view left_;
  bool ok_ = true;
};

// Writer and Reader share Fields, which takes references to change; writing changes nothing.
template <typename T>
void Write(const T& value, std::string& out) {
  Writer writer(out);
  writer(const_cast<T&>(value));
}

absl::Status Finish(const Reader& reader, const char* what) {
  if (!reader.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": the bytes end too early"));
  }
  if (reader.left() > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": found ", reader.left(), " bytes behind its end, expected none"));
  }
  return absl::OkStatus();
}

bool Inside(Range range, size_t size) {
  return range.begin >= 0 && range.begin <= range.end && range.end <= static_cast<int64_t>(size);
}

absl::Status Misfit(const char* what) {
  return absl::InvalidArgumentError(absl::StrCat("plan: ", what));
}

absl::Status CheckSpans(const RankBatch& batch) {
  const auto tables = static_cast<int64_t>(batch.block_tables.size());
  for (const AttentionSpan& span : batch.spans) {
    const int64_t end = int64_t{span.first_position} + span.rows;
    if (span.rows < 1 || span.row_begin < 0 || span.row_begin > batch.rows() - span.rows) {
      return Misfit("a span lies outside the batch's rows");
    }
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
  Write(plan.step, out);
  Write(plan.placement_version, out);
  Write(plan.changes, out);
  Write(plan.costs, out);
  Write(plan.ranks[rank], out);
}

absl::Status ParsePlan(std::string_view bytes, int rank, int ranks, StepPlan& plan) {
  Reader reader(bytes);
  plan.ranks.resize(ranks);
  reader(plan.step, plan.placement_version, plan.changes, plan.costs, plan.ranks[rank]);
  RETURN_IF_ERROR(Finish(reader, "plan"));
  RETURN_IF_ERROR(CheckPlan(plan, ranks));
  return CheckBatch(plan.ranks[rank]);
}

void AppendResult(const RankResult& result, std::string& out) { Write(result, out); }

absl::Status ParseResult(std::string_view bytes, RankResult& result) {
  Reader reader(bytes);
  reader(result);
  return Finish(reader, "result");
}

}  // namespace ballast
