#include "engine/request.h"

#include <cmath>
#include <functional>
#include <limits>

#include "absl/strings/cord.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

RequestLimits Limits() {
  return {.vocab_size = 100, .max_context = 32, .kv_tokens = 64, .has_tokenizer = true};
}

Request GoodRequest() {
  Request request;
  request.prompt = {1, 2, 3};
  return request;
}

// The message of the refusal; checks that it names `path` and carries it as payload.
std::string Refusal(const std::string& path, const std::function<void(Request&)>& spoil,
                    const RequestLimits& limits = Limits()) {
  Request request = GoodRequest();
  spoil(request);
  const absl::Status status = ValidateRequest(request, limits);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << path << ": " << status;
  EXPECT_THAT(std::string(status.message()), StartsWith(path + ": found "));
  EXPECT_THAT(std::string(status.message()), HasSubstr(", expected "));
  EXPECT_EQ(status.GetPayload(kFieldPayload), absl::Cord(path));
  EXPECT_LT(status.message().size(), 300u);
  return std::string(status.message());
}

void ExpectGood(const std::function<void(Request&)>& change) {
  Request request = GoodRequest();
  change(request);
  const absl::Status status = ValidateRequest(request, Limits());
  EXPECT_TRUE(status.ok()) << status;
}

TEST(ValidateRequest, TakesDefaultsAndTheEndsOfEveryRange) {
  ExpectGood([](Request&) {});
  ExpectGood([](Request& r) {
    r.sampling = {.temperature = 0,
                  .top_p = 1,
                  .top_k = -1,
                  .min_p = 1,
                  .repetition_penalty = 100,
                  .frequency_penalty = -2,
                  .presence_penalty = 2,
                  .logit_bias = {{0, -1e30f}, {99, 1e30f}},
                  .seed = ~uint64_t{0},
                  .n = 64};
    r.stopping.max_tokens = 1'000'000;
    r.stopping.min_tokens = 1'000'000;
    r.stopping.stop = std::vector<std::string>(64, std::string(1024, 'x'));
    r.stopping.stop_token_ids = {0, 99};
    r.response.logprobs = 100;
    r.response.prompt_logprobs = 100;
    r.priority = std::numeric_limits<int32_t>::min();
  });
  ExpectGood([](Request& r) { r.prompt.assign(31, 5); });
}

TEST(ValidateRequest, RefusesNumbersOutOfRangeByField) {
  using Spoil = std::function<void(Request&, float)>;
  const std::vector<std::pair<std::string, Spoil>> floats = {
      {"sampling.temperature", [](Request& r, float x) { r.sampling.temperature = x; }},
      {"sampling.top_p", [](Request& r, float x) { r.sampling.top_p = x; }},
      {"sampling.min_p", [](Request& r, float x) { r.sampling.min_p = x; }},
      {"sampling.repetition_penalty",
       [](Request& r, float x) { r.sampling.repetition_penalty = x; }},
      {"sampling.frequency_penalty", [](Request& r, float x) { r.sampling.frequency_penalty = x; }},
      {"sampling.presence_penalty", [](Request& r, float x) { r.sampling.presence_penalty = x; }},
      {"sampling.logit_bias",
       [](Request& r, float x) {
         // Any finite bias is in range.
         r.sampling.logit_bias = {{5, std::abs(x) > 1e6f ? kInfinity : x}};
         r.sampling.logit_bias[0].first = std::isfinite(r.sampling.logit_bias[0].second) ? -1 : 5;
       }},
  };
  for (const auto& [path, spoil] : floats) {
    for (const float bad : {kNaN, kInfinity, -kInfinity, -2.5f, 1e30f}) {
      Refusal(path, [spoil = spoil, bad](Request& r) { spoil(r, bad); });
    }
  }
  for (const float zero : {0.0f, -0.0f}) {
    Refusal("sampling.top_p", [zero](Request& r) { r.sampling.top_p = zero; });
    Refusal("sampling.repetition_penalty",
            [zero](Request& r) { r.sampling.repetition_penalty = zero; });
  }
  Refusal("sampling.top_p", [](Request& r) { r.sampling.top_p = 1.5f; });
  Refusal("sampling.top_k", [](Request& r) { r.sampling.top_k = -2; });
  Refusal("sampling.n", [](Request& r) { r.sampling.n = 0; });
  Refusal("sampling.n", [](Request& r) { r.sampling.n = 65; });
  Refusal("response.logprobs", [](Request& r) { r.response.logprobs = 101; });
  Refusal("response.prompt_logprobs", [](Request& r) { r.response.prompt_logprobs = -2; });
}

TEST(ValidateRequest, SaysWhatWasFoundAndExpected) {
  EXPECT_EQ(Refusal("sampling.top_p", [](Request& r) { r.sampling.top_p = 1.5f; }),
            "sampling.top_p: found 1.5, expected (0, 1]");
  EXPECT_EQ(Refusal("sampling.temperature", [](Request& r) { r.sampling.temperature = kNaN; }),
            "sampling.temperature: found nan, expected [0, 100]");
}

TEST(ValidateRequest, RefusesTokensOutsideTheVocabulary) {
  for (const int32_t bad : {-1, 100, std::numeric_limits<int32_t>::max()}) {
    Refusal("token_ids", [bad](Request& r) { r.prompt.push_back(bad); });
    Refusal("sampling.logit_bias", [bad](Request& r) { r.sampling.logit_bias = {{bad, 1.0f}}; });
    Refusal("stopping.stop_token_ids", [bad](Request& r) { r.stopping.stop_token_ids = {bad}; });
  }
  Refusal("sampling.logit_bias", [](Request& r) { r.sampling.logit_bias = {{3, 1}, {3, 2}}; });
  Refusal("stopping.stop_token_ids",
          [](Request& r) { r.stopping.stop_token_ids.assign(1'000'000, 3); });
}

TEST(ValidateRequest, RefusesAPromptThatIsEmptyOrLeavesNoRoom) {
  Refusal("token_ids", [](Request& r) { r.prompt.clear(); });
  EXPECT_THAT(Refusal("token_ids", [](Request& r) { r.prompt.assign(32, 1); }),
              HasSubstr("found 32 tokens, expected at most 31"));
  RequestLimits small = Limits();
  small.kv_tokens = 16;
  EXPECT_THAT(Refusal(
                  "token_ids", [](Request& r) { r.prompt.assign(16, 1); }, small),
              HasSubstr("found 16 tokens, expected at most 15, for the KV memory"));
}

TEST(ValidateRequest, RefusesTokenLimitsThatCannotBeMet) {
  Refusal("stopping.max_tokens", [](Request& r) { r.stopping.max_tokens = 0; });
  Refusal("stopping.max_tokens", [](Request& r) { r.stopping.max_tokens = -1; });
  Refusal("stopping.min_tokens", [](Request& r) { r.stopping.min_tokens = -1; });
  Refusal("stopping.min_tokens", [](Request& r) {
    r.stopping.max_tokens = 4;
    r.stopping.min_tokens = 5;
  });
}

TEST(ValidateRequest, RefusesStopStringsThatAreTooManyTooLongOrNotText) {
  Refusal("stopping.stop", [](Request& r) { r.stopping.stop = {""}; });
  Refusal("stopping.stop", [](Request& r) { r.stopping.stop = {std::string(1'000'000, 'x')}; });
  Refusal("stopping.stop", [](Request& r) { r.stopping.stop.assign(10'000, "x"); });
  for (const char* bad : {"\x80", "a\xFF", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80",
                          "\xF4\x90\x80\x80", "\xF0\x80\x80\x80", "\xE2\x82", "\xC3("}) {
    Refusal("stopping.stop", [bad](Request& r) { r.stopping.stop = {bad}; });
  }
  ExpectGood([](Request& r) {
    r.stopping.stop = {"\xC3\xA9",     "\xE2\x82\xAC",     "\xF0\x9F\x8E\x88",  "\xED\x9F\xBF",
                       "\xEE\x80\x80", "\xF4\x8F\xBF\xBF", std::string(1, '\0')};
  });
}

TEST(ValidateRequest, NeedsATokenizerForStopStrings) {
  RequestLimits limits = Limits();
  limits.has_tokenizer = false;
  Request request = GoodRequest();
  EXPECT_TRUE(ValidateRequest(request, limits).ok());
  request.stopping.stop = {"x"};
  const absl::Status status = ValidateRequest(request, limits);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), StartsWith("stopping.stop: "));
}

TEST(ValidateRequest, BoundsNamesAndSalts) {
  Refusal("request_id", [](Request& r) { r.id.assign(1025, 'i'); });
  Refusal("cache_salt", [](Request& r) { r.cache_salt.assign(1025, 's'); });
}

}  // namespace
}  // namespace ballast
