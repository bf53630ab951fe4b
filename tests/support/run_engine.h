// Drives an Engine from tests: submits requests and waits for all they give.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "gtest/gtest.h"

namespace ballast::test {

// Everything one output told, joined.
struct Collected {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<TokenLogprobs> logprobs;
  FinishReason finish_reason = FinishReason::kNone;
  std::string stop_match;
  std::optional<RoutedExperts> routed;
};

struct Answer {
  absl::Status status;
  std::vector<Collected> outputs;
  std::vector<TokenLogprobs> prompt_logprobs;
  Usage usage;
  int deltas = 0;
};

// A request under way. Wait() gives its answer once.
class Pending {
 public:
  explicit Pending(int outputs) { answer_.outputs.resize(outputs); }

  OutputCallback Callback() {
    return [this](absl::Status status, OutputDelta delta) {
      std::lock_guard lock(mutex_);
      Take(std::move(status), std::move(delta));
      changed_.notify_all();
    };
  }
  Answer Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return over_; });
    return std::move(answer_);
  }
  // Waits until at least `deltas` have come or all is over.
  void WaitForDeltas(int deltas) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this, deltas] { return over_ || answer_.deltas >= deltas; });
  }

 private:
  void Take(absl::Status status, OutputDelta delta) {
    ASSERT_FALSE(over_) << "a callback after the last one";
    if (!status.ok()) {
      answer_.status = std::move(status);
      over_ = true;
      return;
    }
    ++answer_.deltas;
    Collected& out = answer_.outputs.at(delta.index);
    EXPECT_EQ(out.finish_reason, FinishReason::kNone) << "a delta after the output's last";
    out.text += delta.text;
    out.tokens.insert(out.tokens.end(), delta.token_ids.begin(), delta.token_ids.end());
    out.logprobs.insert(out.logprobs.end(), delta.logprobs.begin(), delta.logprobs.end());
    if (!delta.prompt_logprobs.empty()) answer_.prompt_logprobs = std::move(delta.prompt_logprobs);
    out.finish_reason = delta.finish_reason;
    out.stop_match = delta.stop_match;
    if (delta.routed_experts) out.routed = std::move(delta.routed_experts);
    if (delta.usage) {
      answer_.usage = *delta.usage;
      over_ = true;
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  Answer answer_;
  bool over_ = false;
};

inline std::unique_ptr<Pending> Start(Engine& engine, Request request) {
  auto pending = std::make_unique<Pending>(request.sampling.n);
  const absl::Status status = engine.Submit(std::move(request), pending->Callback());
  EXPECT_TRUE(status.ok()) << status;
  if (!status.ok()) return nullptr;
  return pending;
}

inline Answer Ask(Engine& engine, Request request) {
  const std::unique_ptr<Pending> pending = Start(engine, std::move(request));
  return pending == nullptr ? Answer{} : pending->Wait();
}

inline std::vector<Answer> AskAll(Engine& engine, std::vector<Request> requests) {
  std::vector<std::unique_ptr<Pending>> pending;
  for (Request& request : requests) pending.push_back(Start(engine, std::move(request)));
  std::vector<Answer> answers;
  for (auto& p : pending) answers.push_back(p == nullptr ? Answer{} : p->Wait());
  return answers;
}

inline std::unique_ptr<Engine> MakeEngine(const EngineOptions& options, EngineEvents events = {}) {
  auto engine = Engine::Create(options, std::move(events), [](size_t, size_t) {});
  EXPECT_TRUE(engine.ok()) << engine.status();
  return engine.ok() ? *std::move(engine) : nullptr;
}

// The bits that must not change: tokens and log-probabilities.
inline std::vector<std::pair<int32_t, float>> Bits(const Answer& answer) {
  std::vector<std::pair<int32_t, float>> bits;
  for (const TokenLogprobs& t : answer.prompt_logprobs) {
    bits.emplace_back(t.token, t.logprob.value_or(0));
  }
  for (const Collected& out : answer.outputs) {
    for (const TokenLogprobs& t : out.logprobs) bits.emplace_back(t.token, t.logprob.value_or(0));
  }
  return bits;
}

}  // namespace ballast::test
