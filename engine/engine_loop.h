// The engine's loop: schedule -> run the step on all ranks -> advance sequences -> callbacks.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "engine/balancer.h"
#include "engine/engine.h"
#include "engine/live_request.h"
#include "engine/scheduler.h"
#include "engine/step_plan.h"
#include "engine/world.h"

namespace ballast {

// What the loop runs on; made by Engine::Create.
struct EngineParts {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Tokenizer> tokenizer;  // may be null
  std::unique_ptr<World> world;
  ModelInfo info;
  StepBudget budget;
  int32_t kv_blocks = 0;  // of each rank
  int32_t max_waiting = 0;
  int64_t max_waiting_tokens = 0;
  BalancedModel balanced;
  BalancerOptions balancer;
};

class EngineLoop : public Engine {
 public:
  EngineLoop(EngineParts parts, EngineEvents events);
  ~EngineLoop() override;

  const ModelInfo& info() const override { return parts_.info; }
  const Tokenizer* tokenizer() const override { return parts_.tokenizer.get(); }
  absl::Status Submit(Request request, OutputCallback callback) override;
  bool Abort(const std::string& request_id) override;
  bool Cancel(const std::string& request_id) override;
  void StartDrain() override;
  void FailAll(const std::string& why) override;
  EngineStats Stats() const override;
  ExpertLoad GetExpertLoad() const override { return balancer_->Load(); }
  PlacementState GetPlacement() const override { return balancer_->Placement(); }
  void ApplyPlacement(PlacementRequest request, PlacementCallback done) override {
    balancer_->Apply(std::move(request), std::move(done));
  }
  BalancingState SetPaused(bool paused) override { return balancer_->SetPaused(paused); }
  BalancingState Balancing() const override { return balancer_->State(); }

 private:
  enum class End { kAbort, kCancel };
  // What other threads have asked for since the last step.
  struct Inbox {
    std::vector<std::unique_ptr<LiveRequest>> requests;
    std::vector<std::pair<std::string, End>> ends;
    std::string fail_all;  // why; empty: no
    bool empty() const { return requests.empty() && ends.empty() && fail_all.empty(); }
  };
  using LiveMap = std::unordered_map<std::string, std::unique_ptr<LiveRequest>>;

  bool Post(const std::string& request_id, End end);
  void Wake();

  // The loop thread's alone, from here on.
  void Run();
  void TakeIn(Inbox inbox);
  void StartOutput(LiveRequest& live, int32_t index);
  void RunStep();
  std::vector<Schedule> DecideRanks() const;
  void AdvanceAll(const std::vector<Schedule>& schedules);
  bool Idle() const;
  void ReportAdmissions(const Schedule& schedule);
  void Advance(const ScheduledRows& rows, const RankResult& result, size_t& row, size_t& sample);
  void RecordRouting(const ScheduledRows& rows, const RankResult& result, size_t row,
                     LiveOutput& out);
  void DropBroken();
  void Draw(LiveRequest& live, LiveOutput& out, const Sampled& sampled);
  void Emit(LiveRequest& live, LiveOutput& out, OutputDelta delta);
  void EndOutputs(LiveRequest& live, FinishReason reason);
  void FinishRequest(LiveRequest& live, FinishReason reason);
  void Drop(const std::string& request_id, const absl::Status* failure);
  void CountOutOfWaiting(LiveRequest& live);
  void PublishStats(bool busy);

  const EngineParts parts_;
  const EngineEvents events_;
  const OutputLimits limits_;

  std::vector<Queues> queues_;    // [ranks]
  std::vector<BlockPool> pools_;  // [ranks]
  StepPlan plan_;
  StepResult result_;
  LiveMap live_;
  std::unordered_map<uint64_t, std::pair<LiveRequest*, int32_t>> by_sequence_;
  uint64_t next_sequence_ = 0;
  std::vector<std::string> broken_;  // ids whose logits were no numbers in this step

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  Inbox inbox_;                               // guarded by mutex_
  bool woken_ = false;                        // guarded by mutex_; a step is wanted, rows or not
  std::unordered_set<std::string> known_;     // live ids; guarded by mutex_
  EngineStats stats_;                         // guarded by mutex_
  int32_t waiting_requests_ = 0;              // guarded by mutex_
  int64_t waiting_tokens_ = 0;                // guarded by mutex_
  bool stop_ = false;                         // guarded by mutex_
  bool busy_ = false;                         // guarded by mutex_
  mutable uint64_t last_beat_ = 0;            // guarded by mutex_
  mutable Clock::time_point last_beat_time_;  // guarded by mutex_
  std::atomic<uint64_t> steps_{0};

  std::unique_ptr<Balancer> balancer_;
  std::thread thread_;  // last: it uses all the others
};

}  // namespace ballast
