#include "engine/output.h"

#include <algorithm>
#include <utility>

namespace ballast {
namespace {

bool Contains(std::span<const int32_t> ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Output::Output(std::shared_ptr<Sequence> sequence, const Tokenizer* tokenizer)
    : sequence_(std::move(sequence)),
      stops_(sequence_->request->stopping.stop, sequence_->request->stopping.include_stop) {
  if (tokenizer != nullptr) {
    detokenizer_.emplace(*tokenizer, std::span<const int32_t>(sequence_->request->prompt));
  }
}

std::string Output::Detokenize(int32_t token, int32_t& stop_match) {
  if (!detokenizer_) return "";
  std::string text = detokenizer_->Append(token);
  // As vLLM: before min_tokens no stop string ends the output, nor do later ones look back into
  // that text.
  if (sequence_->output_tokens() <= sequence_->request->stopping.min_tokens) return text;
  StopStrings::Found found = stops_.Append(text);
  stop_match = found.match;
  return std::move(found.text);
}

std::string Output::FlushText() {
  if (!detokenizer_) return "";
  const std::string rest = detokenizer_->Flush();
  StopStrings::Found found = stops_.Append(rest);
  if (found.match < 0) found.text += stops_.Flush();
  return std::move(found.text);
}

OutputDelta Output::Append(Sampled sampled, const OutputLimits& limits) {
  const Request& request = *sequence_->request;
  const StoppingParams& stopping = request.stopping;
  const int32_t token = sampled.token;
  sequence_->tokens.push_back(token);

  OutputDelta delta;
  delta.index = sequence_->output_index;
  delta.token_ids.push_back(token);
  if (sampled.logprobs) delta.logprobs.push_back(*std::move(sampled.logprobs));

  // Before min_tokens stop tokens are banned; one comes only when every token is.
  const bool may_stop = sequence_->output_tokens() > stopping.min_tokens;
  const bool stop_token =
      may_stop && ((!stopping.ignore_eos && Contains(limits.eos_token_ids, token)) ||
                   Contains(stopping.stop_token_ids, token));
  int32_t stop_match = -1;
  if (!stop_token || stopping.include_stop) delta.text = Detokenize(token, stop_match);
  if (stop_match >= 0) {
    delta.finish_reason = FinishReason::kStop;
    delta.stop_match = stopping.stop[stop_match];
  } else if (stop_token) {
    delta.finish_reason = FinishReason::kStop;
  } else if (sequence_->output_tokens() == stopping.max_tokens.value_or(-1) ||
             static_cast<int32_t>(sequence_->tokens.size()) >= limits.max_context) {
    delta.finish_reason = FinishReason::kLength;
  }
  finished_ = delta.finish_reason != FinishReason::kNone;
  if (finished_ && stop_match < 0) delta.text += FlushText();
  return delta;
}

OutputDelta Output::Finish(FinishReason reason) {
  finished_ = true;
  OutputDelta delta;
  delta.index = sequence_->output_index;
  delta.finish_reason = reason;
  delta.text = FlushText();
  return delta;
}

}  // namespace ballast
