// Builds a request from bytes and validates it: no input may crash, and what passes keeps the
// promises that the engine relies on.
#include <fuzzer/FuzzedDataProvider.h>

#include <cmath>
#include <cstdint>

#include "engine/request.h"
#include "engine/status.h"

namespace {

using ballast::Request;
using ballast::RequestLimits;

std::vector<int32_t> Ids(FuzzedDataProvider& bytes) {
  std::vector<int32_t> ids(bytes.ConsumeIntegralInRange<size_t>(0, 200));
  for (int32_t& id : ids) {
    id = bytes.ConsumeBool() ? bytes.ConsumeIntegralInRange<int32_t>(0, 99)
                             : bytes.ConsumeIntegral<int32_t>();
  }
  return ids;
}

Request BuildRequest(FuzzedDataProvider& bytes) {
  Request request;
  request.id = bytes.ConsumeRandomLengthString(2000);
  request.cache_salt = bytes.ConsumeRandomLengthString(2000);
  request.prompt = Ids(bytes);
  request.sampling.temperature = bytes.ConsumeFloatingPoint<float>();
  request.sampling.top_p = bytes.ConsumeFloatingPoint<float>();
  request.sampling.top_k = bytes.ConsumeIntegral<int>();
  request.sampling.min_p = bytes.ConsumeFloatingPoint<float>();
  request.sampling.repetition_penalty = bytes.ConsumeFloatingPoint<float>();
  request.sampling.frequency_penalty = bytes.ConsumeFloatingPoint<float>();
  request.sampling.presence_penalty = bytes.ConsumeFloatingPoint<float>();
  for (const int32_t id : Ids(bytes)) {
    request.sampling.logit_bias.emplace_back(id, bytes.ConsumeFloatingPoint<float>());
  }
  request.sampling.n = bytes.ConsumeIntegral<int>();
  if (bytes.ConsumeBool()) {
    request.stopping.max_tokens = bytes.ConsumeIntegral<int>();
  }
  request.stopping.min_tokens = bytes.ConsumeIntegral<int>();
  for (size_t i = bytes.ConsumeIntegralInRange<size_t>(0, 80); i > 0; --i) {
    request.stopping.stop.push_back(bytes.ConsumeRandomLengthString(1200));
  }
  request.stopping.stop_token_ids = Ids(bytes);
  request.response.logprobs = bytes.ConsumeIntegral<int>();
  request.response.prompt_logprobs = bytes.ConsumeIntegral<int>();
  return request;
}

// Undoes, each by chance, what nearly every random request is refused for, so that the checks
// behind are reached.
void MakePlausible(FuzzedDataProvider& bytes, Request& request) {
  if (bytes.ConsumeBool()) {
    request.sampling = {};
  }
  if (bytes.ConsumeBool()) {
    request.stopping.min_tokens = 0;
    request.stopping.max_tokens.reset();
  }
  if (bytes.ConsumeBool()) {
    request.response = {};
  }
  if (bytes.ConsumeBool()) {
    request.prompt = {1};
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider bytes(data, size);
  Request request = BuildRequest(bytes);
  MakePlausible(bytes, request);
  RequestLimits limits;
  limits.vocab_size = 100;
  limits.max_context = bytes.ConsumeIntegral<int>();
  limits.kv_tokens = bytes.ConsumeIntegral<int64_t>();
  limits.has_tokenizer = bytes.ConsumeBool();
  const absl::Status status = ballast::ValidateRequest(request, limits);
  CHECK(status.message().size() < 400);
  if (!status.ok()) {
    return 0;
  }
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  CHECK(prompt > 0 && prompt < limits.max_context && prompt < limits.kv_tokens);
  CHECK(std::isfinite(request.sampling.temperature) && request.sampling.temperature >= 0);
  CHECK(request.sampling.top_p > 0 && request.sampling.top_p <= 1);
  CHECK(request.sampling.n >= 1 && request.sampling.n <= ballast::kMaxOutputs);
  CHECK(request.stopping.stop.size() <= ballast::kMaxStopStrings);
  for (const auto& [token, bias] : request.sampling.logit_bias) {
    CHECK(token >= 0 && token < limits.vocab_size && std::isfinite(bias));
  }
  return 0;
}
