#include "engine/request.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace ballast {
namespace {

// More is noise: at 100 the distribution over any vocabulary is flat.
constexpr float kMaxTemperature = 100.0f;
constexpr float kMaxRepetitionPenalty = 100.0f;
constexpr float kMaxAdditivePenalty = 2.0f;

template <typename T>
absl::Status CheckInt(const std::string& path, T found, int64_t low, int64_t high) {
  if (found < low || found > high) {
    return FieldError(path, absl::StrCat(found), absl::StrCat("[", low, ", ", high, "]"));
  }
  return absl::OkStatus();
}

// `low` itself is out of range when `open`.
absl::Status CheckFloat(const std::string& path, float found, float low, float high,
                        bool open = false) {
  if (!(found <= high && (open ? found > low : found >= low))) {
    return FieldError(path, absl::StrCat(found),
                      absl::StrCat(open ? "(" : "[", low, ", ", high, "]"));
  }
  return absl::OkStatus();
}

absl::Status CheckToken(const std::string& path, int32_t token, const RequestLimits& limits) {
  if (token < 0 || token >= limits.vocab_size) {
    return FieldError(path, absl::StrCat("token id ", token),
                      absl::StrCat("[0, ", limits.vocab_size, "), the vocabulary"));
  }
  return absl::OkStatus();
}

// RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
bool IsUtf8(const std::string& text) {
  const auto byte = [&text](size_t i) { return static_cast<uint8_t>(text[i]); };
  for (size_t i = 0; i < text.size();) {
    const uint8_t lead = byte(i);
    const size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if ((lead >= 0x80 && lead < 0xC2) || lead > 0xF4 || i + length > text.size()) {
      return false;
    }
    for (size_t j = 1; j < length; ++j) {
      if ((byte(i + j) & 0xC0) != 0x80) {
        return false;
      }
    }
    if ((lead == 0xE0 && byte(i + 1) < 0xA0) || (lead == 0xED && byte(i + 1) > 0x9F) ||
        (lead == 0xF0 && byte(i + 1) < 0x90) || (lead == 0xF4 && byte(i + 1) > 0x8F)) {
      return false;
    }
    i += length;
  }
  return true;
}

absl::Status ValidatePrompt(const Request& request, const RequestLimits& limits) {
  const int64_t size = static_cast<int64_t>(request.prompt.size());
  if (size == 0) {
    return FieldError("token_ids", "an empty prompt", "at least one token");
  }
  if (size >= limits.max_context) {
    return FieldError(
        "token_ids", absl::StrCat(size, " tokens"),
        absl::StrCat("at most ", std::max(1, limits.max_context) - 1, ", for the context holds ",
                     limits.max_context, " with at least one generated"));
  }
  if (size + 1 > limits.kv_tokens) {
    return FieldError("token_ids", absl::StrCat(size, " tokens"),
                      absl::StrCat("at most ", std::max<int64_t>(1, limits.kv_tokens) - 1,
                                   ", for the KV memory holds ", limits.kv_tokens,
                                   " with at least one generated"));
  }
  for (const int32_t token : request.prompt) {
    RETURN_IF_ERROR(CheckToken("token_ids", token, limits));
  }
  return absl::OkStatus();
}

absl::Status ValidateLogitBias(const SamplingParams& sampling, const RequestLimits& limits) {
  const std::string path = "sampling.logit_bias";
  int64_t previous = -1;
  for (const auto& [token, bias] : sampling.logit_bias) {
    RETURN_IF_ERROR(CheckToken(path, token, limits));
    if (token <= previous) {
      return FieldError(path, absl::StrCat("token id ", token, " after ", previous),
                        "distinct ids in ascending order");
    }
    if (!std::isfinite(bias)) {
      return FieldError(path, absl::StrCat(bias, " for token id ", token), "a finite bias");
    }
    previous = token;
  }
  return absl::OkStatus();
}

absl::Status ValidateSampling(const SamplingParams& sampling, const RequestLimits& limits) {
  RETURN_IF_ERROR(CheckFloat("sampling.temperature", sampling.temperature, 0, kMaxTemperature));
  RETURN_IF_ERROR(CheckFloat("sampling.top_p", sampling.top_p, 0, 1, /*open=*/true));
  RETURN_IF_ERROR(CheckInt("sampling.top_k", sampling.top_k, -1, std::numeric_limits<int>::max()));
  RETURN_IF_ERROR(CheckFloat("sampling.min_p", sampling.min_p, 0, 1));
  RETURN_IF_ERROR(CheckFloat("sampling.repetition_penalty", sampling.repetition_penalty, 0,
                             kMaxRepetitionPenalty, /*open=*/true));
  RETURN_IF_ERROR(CheckFloat("sampling.frequency_penalty", sampling.frequency_penalty,
                             -kMaxAdditivePenalty, kMaxAdditivePenalty));
  RETURN_IF_ERROR(CheckFloat("sampling.presence_penalty", sampling.presence_penalty,
                             -kMaxAdditivePenalty, kMaxAdditivePenalty));
  RETURN_IF_ERROR(ValidateLogitBias(sampling, limits));
  return CheckInt("sampling.n", sampling.n, 1, kMaxOutputs);
}

absl::Status ValidateStopStrings(const std::vector<std::string>& stop,
                                 const RequestLimits& limits) {
  const std::string path = "stopping.stop";
  if (stop.size() > kMaxStopStrings) {
    return FieldError(path, absl::StrCat(stop.size(), " strings"),
                      absl::StrCat("at most ", kMaxStopStrings));
  }
  for (const std::string& text : stop) {
    if (text.empty() || text.size() > kMaxStopBytes) {
      return FieldError(path, absl::StrCat("a string of ", text.size(), " bytes"),
                        absl::StrCat("1 to ", kMaxStopBytes, " bytes"));
    }
    if (!IsUtf8(text)) {
      return FieldError(path, "a string that is not UTF-8", "UTF-8");
    }
  }
  if (!stop.empty() && !limits.has_tokenizer) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": found ", stop.size(),
                     " strings, expected none: the checkpoint has no tokenizer, so there is no "
                     "text to find them in"));
  }
  return absl::OkStatus();
}

absl::Status ValidateStopping(const StoppingParams& stopping, const RequestLimits& limits) {
  constexpr int kAny = std::numeric_limits<int>::max();
  RETURN_IF_ERROR(CheckInt("stopping.max_tokens", stopping.max_tokens.value_or(1), 1, kAny));
  RETURN_IF_ERROR(CheckInt("stopping.min_tokens", stopping.min_tokens, 0, kAny));
  if (stopping.max_tokens.has_value() && stopping.min_tokens > *stopping.max_tokens) {
    return FieldError("stopping.min_tokens", absl::StrCat(stopping.min_tokens),
                      absl::StrCat("at most max_tokens, ", *stopping.max_tokens));
  }
  RETURN_IF_ERROR(ValidateStopStrings(stopping.stop, limits));
  if (static_cast<int64_t>(stopping.stop_token_ids.size()) > limits.vocab_size) {
    return FieldError("stopping.stop_token_ids",
                      absl::StrCat(stopping.stop_token_ids.size(), " token ids"),
                      absl::StrCat("at most ", limits.vocab_size, ", the vocabulary"));
  }
  for (const int32_t token : stopping.stop_token_ids) {
    RETURN_IF_ERROR(CheckToken("stopping.stop_token_ids", token, limits));
  }
  return absl::OkStatus();
}

// -1 is unset; clients cannot say it.
absl::Status CheckLogprobs(const std::string& path, int32_t found, const RequestLimits& limits) {
  return found == -1 ? absl::OkStatus() : CheckInt(path, found, 0, limits.vocab_size);
}

absl::Status CheckBytes(const std::string& path, const std::string& found, size_t limit) {
  if (found.size() > limit) {
    return FieldError(path, absl::StrCat(found.size(), " bytes"),
                      absl::StrCat("at most ", limit, " bytes"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateRequest(const Request& request, const RequestLimits& limits) {
  RETURN_IF_ERROR(CheckBytes("request_id", request.id, kMaxRequestIdBytes));
  RETURN_IF_ERROR(CheckBytes("cache_salt", request.cache_salt, kMaxCacheSaltBytes));
  RETURN_IF_ERROR(ValidatePrompt(request, limits));
  RETURN_IF_ERROR(ValidateSampling(request.sampling, limits));
  RETURN_IF_ERROR(ValidateStopping(request.stopping, limits));
  RETURN_IF_ERROR(CheckLogprobs("response.logprobs", request.response.logprobs, limits));
  return CheckLogprobs("response.prompt_logprobs", request.response.prompt_logprobs, limits);
}

absl::Status FieldError(const std::string& path, const std::string& found,
                        const std::string& expected) {
  absl::Status status =
      absl::InvalidArgumentError(absl::StrCat(path, ": found ", found, ", expected ", expected));
  status.SetPayload(kFieldPayload, absl::Cord(path));
  return status;
}

}  // namespace ballast
