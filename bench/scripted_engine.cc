#include "bench/scripted_engine.h"

namespace ballast::bench {
namespace {

constexpr int kVocabulary = 6144;
constexpr int kContext = 1 << 20;

OutputDelta Token(int round, int tokens) {
  OutputDelta delta;
  delta.text = " word";
  delta.token_ids = {round % kVocabulary};
  if (round + 1 == tokens) {
    delta.finish_reason = FinishReason::kLength;
    delta.usage = Usage{.prompt_tokens = 1, .completion_tokens = tokens};
  }
  return delta;
}

}  // namespace

ScriptedEngine::ScriptedEngine(const Script& script) : script_(script) {
  info_.name = "scripted";
  info_.config.vocab_size = kVocabulary;
  info_.max_context = kContext;
  info_.limits = {.vocab_size = kVocabulary,
                  .max_context = kContext,
                  .kv_tokens = kContext,
                  .has_tokenizer = false};
  loop_ = std::thread([this] { Run(); });
}

ScriptedEngine::~ScriptedEngine() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  loop_.join();
}

absl::Status ScriptedEngine::Submit(Request, OutputCallback callback) {
  {
    const std::lock_guard lock(mutex_);
    live_.push_back(std::move(callback));
  }
  changed_.notify_all();
  return absl::OkStatus();
}

ScriptedEngine::Times ScriptedEngine::times() const {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return over_; });
  return times_;
}

void ScriptedEngine::SpeakRounds(const std::vector<OutputCallback>& streams) {
  const Clock::time_point begin = Clock::now();
  for (int round = 0; round < script_.tokens; ++round) {
    if (script_.rounds_per_second > 0) {
      const std::chrono::duration<double> due(round / script_.rounds_per_second);
      std::this_thread::sleep_until(begin + std::chrono::duration_cast<Clock::duration>(due));
    }
    for (const OutputCallback& callback : streams) {
      callback(absl::OkStatus(), Token(round, script_.tokens));
    }
  }
}

void ScriptedEngine::Run() {
  std::vector<OutputCallback> streams;
  {
    std::unique_lock lock(mutex_);
    const auto all = static_cast<size_t>(script_.streams);
    changed_.wait(lock, [&] { return stop_ || live_.size() == all; });
    if (stop_) return;
    streams.swap(live_);
  }
  Times times;
  times.begin = Clock::now();
  times.process_cpu_begin = CpuSeconds(RUSAGE_SELF);
  const double loop_begin = CpuSeconds(RUSAGE_THREAD);
  SpeakRounds(streams);
  times.loop_cpu = CpuSeconds(RUSAGE_THREAD) - loop_begin;
  const std::lock_guard lock(mutex_);
  times_ = times;
  over_ = true;
  changed_.notify_all();
}

}  // namespace ballast::bench
