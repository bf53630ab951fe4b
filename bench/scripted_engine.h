// An engine without a model: it says one token to each of a number of streams per round, so that
// what is measured around it is the server alone.
#pragma once

#include <sys/resource.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"

namespace ballast::bench {

// Processor time of the caller's process or thread (RUSAGE_SELF, RUSAGE_THREAD).
inline double CpuSeconds(int who) {
  rusage usage;
  getrusage(who, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class ScriptedEngine : public Engine {
 public:
  using Clock = std::chrono::steady_clock;

  struct Script {
    int streams = 64;  // the rounds begin when so many are live
    int tokens = 1000;
    double rounds_per_second = 0;  // 0: as fast as callbacks return
  };
  // Taken around the rounds, on the engine's thread.
  struct Times {
    Clock::time_point begin;
    double process_cpu_begin = 0;  // s
    double loop_cpu = 0;           // s, of the engine's thread: what callbacks cost the loop
  };

  explicit ScriptedEngine(const Script& script);
  ~ScriptedEngine() override;

  const ModelInfo& info() const override { return info_; }
  const Tokenizer* tokenizer() const override { return nullptr; }
  absl::Status Submit(Request request, OutputCallback callback) override;
  bool Abort(const std::string&) override { return false; }
  bool Cancel(const std::string&) override { return false; }
  void StartDrain() override {}
  void FailAll(const std::string&) override {}
  EngineStats Stats() const override { return {}; }
  ExpertLoad GetExpertLoad() const override { return {}; }
  PlacementState GetPlacement() const override { return {}; }
  void ApplyPlacement(PlacementRequest, PlacementCallback done) override {
    done(absl::UnimplementedError("no model"));
  }
  BalancingState SetPaused(bool) override { return {}; }
  BalancingState Balancing() const override { return {}; }

  Times times() const;  // waits for the rounds to be over

 private:
  void Run();
  void SpeakRounds(const std::vector<OutputCallback>& streams);

  const Script script_;
  ModelInfo info_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::vector<OutputCallback> live_;  // guarded by mutex_
  Times times_;                       // guarded by mutex_
  bool over_ = false;                 // guarded by mutex_
  bool stop_ = false;                 // guarded by mutex_
  std::thread loop_;
};

}  // namespace ballast::bench
