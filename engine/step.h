// What travels between the leader and the ranks each step. Plain arrays and numbers: threads share
// them, processes get their bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "engine/moe/cost_model.h"
#include "engine/moe/cost_parameters.h"
#include "engine/moe/slot_moves.h"
#include "engine/request.h"
#include "kernels/device.h"
#include "kernels/sampling.h"

namespace ballast {

// One row whose logits are wanted: to draw the token that follows it, or to score a known one. Its
// position is that of the token to be drawn or scored (the row's own + 1).
struct SampleRow : SampleParameters {
  int32_t row = 0;        // row of the batch
  int32_t logprobs = -1;  // as ResponseParams: -1 none, 0 the token's own, n the n best too
};

// One rank's share of a step.
struct RankBatch {
  std::vector<int32_t> tokens;     // [rows]
  std::vector<int32_t> positions;  // [rows]
  std::vector<int32_t> kv_slots;   // [rows] block * kKvBlockTokens + offset
  std::vector<AttentionSpan> spans;
  std::vector<int32_t> block_tables;  // of the spans, one after another
  std::vector<SampleRow> samples;     // ascending by row
  std::vector<TokenBias> bias;
  std::vector<int32_t> banned;
  std::vector<TokenCount> history;

  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
};

struct StepPlan {
  uint64_t step = 0;
  uint64_t placement_version = 1;
  std::vector<LayerChange>
      changes;  // what placement_version changes; empty: it was in force before
  CostParameters costs;
  std::vector<RankBatch> ranks;  // [ranks]
};

struct TokenLogprobs {
  int32_t token = 0;
  std::optional<float> logprob;                // absent for the first prompt token
  int32_t rank = 0;                            // 1 is the most likely
  std::vector<std::pair<int32_t, float>> top;  // best first, ties to the lower id
};

// Answer to one SampleRow.
struct Sampled {
  int32_t token = -1;  // drawn, or the target; kNotFinite: some logit is NaN or infinite
  std::optional<TokenLogprobs> logprobs;  // also absent where a draw is kNotFinite
};

// What all ranks decided alike of one MoE layer in a step; times as in assignment.h.
struct LayerBalance {
  int64_t spilled_rows = 0;
  int64_t imports = 0;          // experts whose weights were lent
  int64_t rows_over_bound = 0;  // rows' worth of time by which the longest rank passes the bound
  int64_t value = 0;            // predicted time of the longest rank
};

struct RankResult {
  std::vector<Sampled> samples;      // as RankBatch.samples
  std::vector<uint16_t> routed;      // [rows, moe layers, k] expert ids, best first
  std::vector<int64_t> expert_rows;  // [moe layers, experts] rows routed there by this batch
  std::vector<int64_t> run_rows;  // [moe layers] rows of any batch that ran here, spilled ones too
  std::vector<ExpertTiming> timings;  // [moe layers] of the experts that ran here
  std::vector<LayerBalance> balance;  // [moe layers] the same on every rank
  double wait_seconds = 0;            // waiting for other ranks in exchanges
  double seconds = 0;
};

struct StepResult {
  std::vector<RankResult> ranks;
};

}  // namespace ballast
