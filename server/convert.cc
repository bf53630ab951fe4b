#include "server/convert.h"

#include <algorithm>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace ballast {
namespace {

absl::Status CheckTokenId(uint32_t id, int64_t vocab_size, const std::string& field) {
  if (id < vocab_size) return absl::OkStatus();
  return FieldError(field, absl::StrCat("token id ", id),
                    absl::StrCat("[0, ", vocab_size, "), the vocabulary"));
}

SamplingParams ToSampling(const v1::SamplingParams& message, const GenerationDefaults& defaults) {
  SamplingParams sampling;
  sampling.temperature =
      message.has_temperature() ? message.temperature() : defaults.temperature.value_or(1.0f);
  sampling.top_p = message.has_top_p() ? message.top_p() : defaults.top_p.value_or(1.0f);
  sampling.top_k = message.has_top_k() ? message.top_k() : defaults.top_k.value_or(0);
  sampling.min_p = message.has_min_p() ? message.min_p() : defaults.min_p.value_or(0.0f);
  sampling.repetition_penalty = message.has_repetition_penalty()
                                    ? message.repetition_penalty()
                                    : defaults.repetition_penalty.value_or(1.0f);
  sampling.frequency_penalty = message.frequency_penalty();
  sampling.presence_penalty = message.presence_penalty();
  if (message.has_n()) sampling.n = message.n();
  return sampling;
}

// The wire's ids are unsigned and the engine's are not, so they are checked on the way. A prompt
// beyond the context is refused before it is copied: 64 MiB of message can hold 64 Mi of ids.
absl::Status FillTokenIds(const v1::GenerateRequest& message, const ModelInfo& info,
                          Request* request) {
  const int vocab_size = info.config.vocab_size;
  if (message.token_ids().ids_size() >= info.max_context && info.max_context > 0) {
    return FieldError("token_ids", absl::StrCat(message.token_ids().ids_size(), " tokens"),
                      absl::StrCat("at most ", info.max_context - 1, ", for the context holds ",
                                   info.max_context, " with at least one generated"));
  }
  ASSIGN_OR_RETURN(request->prompt, ToTokenIds(message.token_ids().ids(), vocab_size, "token_ids"));
  ASSIGN_OR_RETURN(
      request->stopping.stop_token_ids,
      ToTokenIds(message.stopping().stop_token_ids(), vocab_size, "stopping.stop_token_ids"));
  auto& bias = request->sampling.logit_bias;
  for (const auto& [id, value] : message.sampling().logit_bias()) {
    RETURN_IF_ERROR(CheckTokenId(id, vocab_size, "sampling.logit_bias"));
    bias.emplace_back(static_cast<int32_t>(id), value);
  }
  std::sort(bias.begin(), bias.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  return absl::OkStatus();
}

void FillStopping(const v1::StoppingOptions& message, const GenerationDefaults& defaults,
                  StoppingParams* stopping) {
  if (message.has_max_tokens()) {
    stopping->max_tokens = message.max_tokens();
  } else {
    stopping->max_tokens = defaults.max_new_tokens;
  }
  stopping->min_tokens = message.min_tokens();
  stopping->stop.assign(message.stop().begin(), message.stop().end());
  stopping->ignore_eos = message.ignore_eos();
  stopping->include_stop = message.include_stop();
}

// The engine says "none" with -1, the wire with absence; a client's -1 stays an error.
absl::Status FillLogprobs(bool present, int32_t wanted, const std::string& field, int* logprobs) {
  if (!present) return absl::OkStatus();
  if (wanted < 0) return FieldError(field, absl::StrCat(wanted), "0 to the vocabulary size");
  *logprobs = wanted;
  return absl::OkStatus();
}

v1::FinishReason ToFinishReason(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return v1::FINISH_REASON_UNSPECIFIED;
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kAborted:
      return v1::FINISH_REASON_ABORTED;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

void AddLogprobs(const std::vector<TokenLogprobs>& from,
                 google::protobuf::RepeatedPtrField<v1::TokenLogprobs>* to) {
  to->Reserve(static_cast<int>(from.size()));
  for (const TokenLogprobs& token : from) {
    v1::TokenLogprobs* message = to->Add();
    message->set_token_id(static_cast<uint32_t>(token.token));
    if (token.logprob.has_value()) message->set_logprob(*token.logprob);
    message->set_rank(static_cast<uint32_t>(token.rank));
    message->mutable_top()->Reserve(static_cast<int>(token.top.size()));
    for (const auto& [id, logprob] : token.top) {
      auto* candidate = message->add_top();
      candidate->set_token_id(static_cast<uint32_t>(id));
      candidate->set_logprob(logprob);
    }
  }
}

void FillRoutedExperts(RoutedExperts from, v1::RoutedExperts* to) {
  to->set_tokens(static_cast<uint32_t>(from.tokens));
  to->set_k(static_cast<uint32_t>(from.k));
  to->mutable_layers()->Add(from.layers.begin(), from.layers.end());
  to->set_bytes_per_id(static_cast<uint32_t>(from.bytes_per_id));
  to->set_ids(std::move(from.ids));
}

void FillUsage(const Usage& from, v1::Usage* to) {
  to->set_prompt_tokens(static_cast<uint32_t>(from.prompt_tokens));
  to->set_completion_tokens(static_cast<uint32_t>(from.completion_tokens));
  to->set_cached_prompt_tokens(static_cast<uint32_t>(from.cached_prompt_tokens));
}

}  // namespace

absl::StatusOr<Request> ToRequest(const v1::GenerateRequest& message, const ModelInfo& info,
                                  const Drawn& drawn) {
  if (!message.model().empty() && message.model() != info.name) {
    return absl::NotFoundError(absl::StrCat("model: found \"", message.model(),
                                            "\", expected the served \"", info.name,
                                            "\" or nothing"));
  }
  if (message.input_case() == v1::GenerateRequest::INPUT_NOT_SET) {
    return FieldError("input", "nothing", "text or token_ids");
  }
  Request request;
  request.id = message.request_id().empty() ? drawn.request_id : message.request_id();
  request.sampling = ToSampling(message.sampling(), info.defaults);
  request.sampling.seed = message.sampling().has_seed() ? message.sampling().seed() : drawn.seed;
  FillStopping(message.stopping(), info.defaults, &request.stopping);
  RETURN_IF_ERROR(FillTokenIds(message, info, &request));
  const v1::ResponseOptions& response = message.response();
  RETURN_IF_ERROR(FillLogprobs(response.has_logprobs(), response.logprobs(), "response.logprobs",
                               &request.response.logprobs));
  RETURN_IF_ERROR(FillLogprobs(response.has_prompt_logprobs(), response.prompt_logprobs(),
                               "response.prompt_logprobs", &request.response.prompt_logprobs));
  request.response.return_routed_experts = response.return_routed_experts();
  request.priority = message.priority();
  request.bypass_prefix_cache = message.bypass_prefix_cache();
  request.cache_salt = message.cache_salt();
  return request;
}

bool NeedsSeed(const v1::GenerateRequest& message, const Request& request) {
  return !message.sampling().has_seed() && request.sampling.temperature != 0.0f;
}

absl::Status NameTextField(const absl::Status& status) {
  const auto payload = status.GetPayload(kFieldPayload);
  if (!payload.has_value()) return status;
  const std::string field(*payload);
  if (!absl::StartsWith(field, "token_ids")) return status;
  std::string rest(status.message());
  if (absl::StartsWith(rest, field)) rest.erase(0, field.size());
  absl::Status renamed(status.code(), absl::StrCat("text", rest));
  renamed.SetPayload(kFieldPayload, absl::Cord("text"));
  return renamed;
}

v1::GenerateChunk ToChunk(std::string_view request_id, OutputDelta delta) {
  v1::GenerateChunk chunk;
  chunk.set_request_id(std::string(request_id));
  chunk.set_index(static_cast<uint32_t>(delta.index));
  chunk.set_text(std::move(delta.text));
  chunk.mutable_token_ids()->Add(delta.token_ids.begin(), delta.token_ids.end());
  AddLogprobs(delta.logprobs, chunk.mutable_logprobs());
  AddLogprobs(delta.prompt_logprobs, chunk.mutable_prompt_logprobs());
  chunk.set_finish_reason(ToFinishReason(delta.finish_reason));
  chunk.set_stop_match(std::move(delta.stop_match));
  if (delta.routed_experts.has_value()) {
    FillRoutedExperts(*std::move(delta.routed_experts), chunk.mutable_routed_experts());
  }
  if (delta.usage.has_value()) FillUsage(*delta.usage, chunk.mutable_usage());
  return chunk;
}

void Append(v1::GenerateChunk chunk, v1::GenerateResponse* response) {
  CHECK(chunk.index() < static_cast<uint32_t>(response->outputs_size()));
  v1::GenerateOutput* output = response->mutable_outputs(static_cast<int>(chunk.index()));
  output->mutable_text()->append(chunk.text());
  output->mutable_token_ids()->MergeFrom(chunk.token_ids());
  for (v1::TokenLogprobs& token : *chunk.mutable_logprobs()) {
    *output->add_logprobs() = std::move(token);
  }
  for (v1::TokenLogprobs& token : *chunk.mutable_prompt_logprobs()) {
    *response->add_prompt_logprobs() = std::move(token);
  }
  if (chunk.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
    output->set_finish_reason(chunk.finish_reason());
    output->set_stop_match(chunk.stop_match());
  }
  if (chunk.has_routed_experts()) {
    *output->mutable_routed_experts() = std::move(*chunk.mutable_routed_experts());
  }
  if (chunk.has_usage()) *response->mutable_usage() = chunk.usage();
}

absl::StatusOr<std::vector<int32_t>> ToTokenIds(
    const google::protobuf::RepeatedField<uint32_t>& ids, int64_t vocab_size,
    const std::string& field) {
  std::vector<int32_t> out;
  out.reserve(static_cast<size_t>(ids.size()));
  for (const uint32_t id : ids) {
    RETURN_IF_ERROR(CheckTokenId(id, vocab_size, field));
    out.push_back(static_cast<int32_t>(id));
  }
  return out;
}

v1::GetModelInfoResponse ToModelInfo(const ModelInfo& info, bool has_tokenizer,
                                     std::string_view version) {
  const ModelConfig& config = info.config;
  v1::GetModelInfoResponse message;
  message.set_name(info.name);
  message.set_model_type(config.model_type);
  message.set_vocab_size(static_cast<uint32_t>(config.vocab_size));
  message.set_max_context(static_cast<uint32_t>(info.max_context));
  message.set_layers(static_cast<uint32_t>(config.layers));
  for (size_t layer = 0; layer < config.is_moe.size(); ++layer) {
    if (config.is_moe[layer]) message.add_moe_layers(static_cast<uint32_t>(layer));
  }
  message.set_experts(static_cast<uint32_t>(config.experts));
  message.set_experts_per_token(static_cast<uint32_t>(config.experts_per_token));
  message.set_parameters(static_cast<uint64_t>(info.parameters));
  message.set_active_parameters(static_cast<uint64_t>(info.active_parameters));
  message.set_compute(info.compute);
  message.set_weights(info.weights);
  message.set_has_tokenizer(has_tokenizer);
  message.set_ranks(static_cast<uint32_t>(info.ranks));
  message.set_version(std::string(version));
  return message;
}

}  // namespace ballast
