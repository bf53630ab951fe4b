// An engine that says what a test tells it to, on a loop thread of its own as the real one does.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"

namespace ballast {

class FakeEngine : public Engine {
 public:
  // What to answer to a request at once; empty: the test speaks through Say.
  using Script = std::function<std::vector<OutputDelta>(const Request&)>;

  explicit FakeEngine(std::unique_ptr<Tokenizer> tokenizer = nullptr, Script script = nullptr);
  ~FakeEngine() override;

  const ModelInfo& info() const override { return info_; }
  const Tokenizer* tokenizer() const override { return tokenizer_.get(); }
  absl::Status Submit(Request request, OutputCallback callback) override;
  bool Abort(const std::string& request_id) override;
  bool Cancel(const std::string& request_id) override;
  void StartDrain() override;
  void FailAll(const std::string& why) override;
  EngineStats Stats() const override;
  ExpertLoad GetExpertLoad() const override;
  PlacementState GetPlacement() const override;
  void ApplyPlacement(PlacementRequest request, PlacementCallback done) override;
  BalancingState SetPaused(bool paused) override;
  BalancingState Balancing() const override;

  ModelInfo& mutable_info() { return info_; }  // before the server has it
  void SetExpertLoad(ExpertLoad load);
  void SetPlacement(PlacementState placement);
  // What to answer to ApplyPlacement; without it the placement is taken as it is.
  void OnApplyPlacement(std::function<void(PlacementRequest, PlacementCallback)> answer);
  void RefuseWith(absl::Status status);  // every Submit from now on
  void SetProgressing(bool progressing);
  // Delivers on the loop thread; the last piece of news ends the request. Unknown ids are ignored.
  void Say(const std::string& id, OutputDelta delta);
  void Fail(const std::string& id, absl::Status status);
  // Waits until the request is live, until it is not, until it was cancelled.
  Request AwaitRequest(const std::string& id = "");  // "": any
  void AwaitCancelled(const std::string& id);
  int live() const;

 private:
  struct News {
    std::string id;
    absl::Status status;
    OutputDelta delta;
  };
  struct Live {
    Request request;
    OutputCallback callback;
  };
  void Push(News news);  // mutex_ held
  void Run();

  ModelInfo info_;
  std::unique_ptr<Tokenizer> tokenizer_;
  Script script_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Live> live_;
  std::set<std::string> cancelled_;
  std::deque<News> news_;
  EngineStats stats_;
  ExpertLoad load_;
  PlacementState placement_;
  BalancingState balancing_{false, "full"};
  std::function<void(PlacementRequest, PlacementCallback)> on_apply_;
  absl::Status refusal_;
  bool stop_ = false;
  std::thread loop_;
};

// One output's news: text and one token per call.
inline OutputDelta Delta(std::string text, std::vector<int32_t> ids, int index = 0) {
  OutputDelta delta;
  delta.index = index;
  delta.text = std::move(text);
  delta.token_ids = std::move(ids);
  return delta;
}

inline OutputDelta Last(OutputDelta delta, FinishReason reason = FinishReason::kStop) {
  delta.finish_reason = reason;
  delta.usage = Usage{3, 2, 0};
  return delta;
}

}  // namespace ballast
