// What a client asked for: plain data, validated once, never changed afterwards.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/status.h"

namespace ballast {

struct SamplingParams {
  float temperature = 1.0f;                           // [0, 100]; 0: greedy
  float top_p = 1.0f;                                 // (0, 1]
  int top_k = 0;                                      // 0 or -1: off
  float min_p = 0.0f;                                 // [0, 1]
  float repetition_penalty = 1.0f;                    // (0, 100]; over prompt and output
  float frequency_penalty = 0.0f;                     // [-2, 2]; over output
  float presence_penalty = 0.0f;                      // [-2, 2]; over output
  std::vector<std::pair<int32_t, float>> logit_bias;  // sorted by token id, ids distinct
  uint64_t seed = 0;  // drawn by the server when the client set none
  int n = 1;          // [1, kMaxOutputs]
};

struct StoppingParams {
  std::optional<int> max_tokens;  // unset: to the end of the context
  int min_tokens = 0;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  bool include_stop = false;
};

struct ResponseParams {
  int logprobs = -1;         // -1: none; 0: the chosen token's; n: the n best too
  int prompt_logprobs = -1;  // likewise
  bool return_routed_experts = false;
};

struct Request {
  std::string id;
  std::vector<int32_t> prompt;
  SamplingParams sampling;
  StoppingParams stopping;
  ResponseParams response;
  int32_t priority = 0;  // higher is sooner
  bool bypass_prefix_cache = false;
  std::string cache_salt;  // sequences share cached prefixes only under the same salt
};

inline constexpr int kMaxOutputs = 64;
inline constexpr int kMaxStopStrings = 64;
inline constexpr size_t kMaxStopBytes = 1024;
inline constexpr size_t kMaxRequestIdBytes = 1024;
inline constexpr size_t kMaxCacheSaltBytes = 1024;

// What the served model bounds a request by.
struct RequestLimits {
  int vocab_size = 0;
  int max_context = 0;        // tokens of prompt and output together
  int64_t kv_tokens = 0;      // tokens that the KV memory of one rank can hold
  bool has_tokenizer = true;  // stop strings need one
};

// INVALID_ARGUMENT when a value is out of its range; the message begins with the field's path as
// in api.md ("sampling.top_p: found 1.5, expected (0, 1]") and the payload kFieldPayload holds the
// path alone. FAILED_PRECONDITION for stop strings where there is no tokenizer. A max_tokens that
// reaches past the context is no error: the output then ends with the context. Pure; any thread.
absl::Status ValidateRequest(const Request& request, const RequestLimits& limits);

inline constexpr char kFieldPayload[] = "ballast/field";

// An INVALID_ARGUMENT that names a field: "PATH: found FOUND, expected EXPECTED".
absl::Status FieldError(const std::string& path, const std::string& found,
                        const std::string& expected);

}  // namespace ballast
