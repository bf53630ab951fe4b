#include "engine/step_plan.h"

#include <algorithm>

namespace ballast {
namespace {

void Clear(RankBatch& batch) {
  batch.tokens.clear();
  batch.positions.clear();
  batch.kv_slots.clear();
  batch.spans.clear();
  batch.block_tables.clear();
  batch.samples.clear();
  batch.bias.clear();
  batch.banned.clear();
  batch.history.clear();
}

template <typename T>
Range Append(std::vector<T>& to, std::span<const T> from) {
  const auto begin = static_cast<int32_t>(to.size());
  to.insert(to.end(), from.begin(), from.end());
  return {begin, static_cast<int32_t>(to.size())};
}

Range AppendHistory(const Sequence& sequence, std::vector<TokenCount>& history) {
  std::vector<int32_t> tokens = sequence.tokens;
  const auto output = tokens.begin() + sequence.prompt_tokens;
  std::sort(tokens.begin(), output);
  std::sort(output, tokens.end());
  const auto begin = static_cast<int32_t>(history.size());
  // Merges the two sorted runs into distinct tokens.
  auto p = tokens.begin();
  auto o = output;
  while (p != output || o != tokens.end()) {
    const bool from_prompt = o == tokens.end() || (p != output && *p <= *o);
    const int32_t token = from_prompt ? *p : *o;
    while (p != output && *p == token) ++p;
    const auto first = o;
    while (o != tokens.end() && *o == token) ++o;
    history.push_back({token, static_cast<int32_t>(o - first)});
  }
  return {begin, static_cast<int32_t>(history.size())};
}

Range AppendBias(const Sequence& sequence, std::vector<TokenBias>& biases) {
  const auto begin = static_cast<int32_t>(biases.size());
  for (const auto& [token, bias] : sequence.request->sampling.logit_bias) {
    biases.push_back({token, bias});
  }
  return {begin, static_cast<int32_t>(biases.size())};
}

SampleRow DrawRow(const Sequence& sequence, int32_t row, std::span<const int32_t> eos,
                  RankBatch& batch) {
  const SamplingParams& sampling = sequence.request->sampling;
  const StoppingParams& stopping = sequence.request->stopping;
  SampleRow sample;
  sample.row = row;
  sample.position = static_cast<int32_t>(sequence.tokens.size());
  sample.logprobs = sequence.request->response.logprobs;
  sample.temperature = sampling.temperature;
  sample.top_p = sampling.top_p;
  sample.top_k = sampling.top_k;
  sample.min_p = sampling.min_p;
  sample.repetition_penalty = sampling.repetition_penalty;
  sample.frequency_penalty = sampling.frequency_penalty;
  sample.presence_penalty = sampling.presence_penalty;
  sample.seed = sampling.seed;
  sample.output_index = sequence.output_index;
  sample.bias = AppendBias(sequence, batch.bias);
  if (sequence.output_tokens() < stopping.min_tokens) {
    sample.banned = Append(batch.banned, std::span(stopping.stop_token_ids));
    if (!stopping.ignore_eos) sample.banned.end = Append(batch.banned, eos).end;
  }
  if (sampling.repetition_penalty != 1.0f || sampling.frequency_penalty != 0.0f ||
      sampling.presence_penalty != 0.0f) {
    sample.history = AppendHistory(sequence, batch.history);
  }
  return sample;
}

void AppendScores(const Sequence& sequence, int32_t rows, int32_t first_row, RankBatch& batch) {
  const int32_t logprobs = sequence.request->response.prompt_logprobs;
  if (logprobs < 0 || sequence.output_index != 0) return;
  // The row at position p scores the token at p + 1.
  const int32_t begin = std::max(sequence.computed + 1, sequence.scored);
  const int32_t end = std::min(sequence.computed + rows + 1, sequence.prompt_tokens);
  for (int32_t position = begin; position < end; ++position) {
    SampleRow sample;
    sample.row = first_row + position - 1 - sequence.computed;
    sample.position = position;
    sample.target = sequence.tokens[position];
    sample.logprobs = logprobs;
    batch.samples.push_back(sample);
  }
}

void AppendSequence(const ScheduledRows& scheduled, std::span<const int32_t> eos,
                    RankBatch& batch) {
  const Sequence& sequence = *scheduled.sequence;
  const auto first_row = static_cast<int32_t>(batch.tokens.size());
  for (int32_t i = 0; i < scheduled.rows; ++i) {
    const int32_t position = sequence.computed + i;
    batch.tokens.push_back(sequence.tokens[position]);
    batch.positions.push_back(position);
    batch.kv_slots.push_back(sequence.blocks[position / kKvBlockTokens] * kKvBlockTokens +
                             position % kKvBlockTokens);
  }
  batch.spans.push_back({first_row, scheduled.rows, sequence.computed,
                         static_cast<int64_t>(batch.block_tables.size())});
  Append(batch.block_tables, std::span<const int32_t>(sequence.blocks));
  AppendScores(sequence, scheduled.rows, first_row, batch);
  if (scheduled.draws) {
    batch.samples.push_back(DrawRow(sequence, first_row + scheduled.rows - 1, eos, batch));
  }
}

}  // namespace

void BuildStepPlan(std::span<const Schedule> schedules, std::span<const int32_t> eos_token_ids,
                   StepPlan& plan) {
  for (size_t rank = 0; rank < schedules.size(); ++rank) {
    RankBatch& batch = plan.ranks[rank];
    Clear(batch);
    for (const ScheduledRows& scheduled : schedules[rank].rows) {
      AppendSequence(scheduled, eos_token_ids, batch);
    }
  }
}

}  // namespace ballast
