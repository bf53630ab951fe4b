// What the engine's loop keeps of a request until its last callback.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/output.h"

namespace ballast {

using Clock = std::chrono::steady_clock;

inline double SecondsBetween(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

struct LiveOutput {
  explicit LiveOutput(Output o) : output(std::move(o)) {}

  Output output;
  std::string routed;  // expert ids of the tokens in sequence().routed
  Clock::time_point last_token;
};

struct LiveRequest {
  std::shared_ptr<const Request> request;
  OutputCallback callback;
  Clock::time_point submitted;
  // Output 0 from the start; the others join when it has its first token, so that they find its
  // prompt in the prefix cache.
  std::deque<LiveOutput> outputs;
  std::vector<TokenLogprobs> prompt_logprobs;  // waiting for the first delta
  Usage usage;
  bool scheduled = false;  // counted out of the waiting requests
};

}  // namespace ballast
