#include "tests/server/fake_engine.h"

namespace ballast {

FakeEngine::FakeEngine(std::unique_ptr<Tokenizer> tokenizer, Script script)
    : tokenizer_(std::move(tokenizer)), script_(std::move(script)) {
  info_.name = "tiny";
  info_.config.model_type = "mixtral";
  info_.config.vocab_size = 300;
  info_.config.layers = 3;
  info_.config.experts = 8;
  info_.config.experts_per_token = 2;
  info_.config.is_moe = {false, true, true};
  info_.parameters = 1000;
  info_.active_parameters = 400;
  info_.max_context = 1024;
  info_.compute = "exact";
  info_.weights = "bf16";
  info_.limits.vocab_size = 300;
  info_.limits.max_context = 1024;
  info_.limits.kv_tokens = 4096;
  info_.limits.has_tokenizer = tokenizer_ != nullptr;
  loop_ = std::thread([this] { Run(); });
}

FakeEngine::~FakeEngine() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  loop_.join();
}

absl::Status FakeEngine::Submit(Request request, OutputCallback callback) {
  const std::lock_guard lock(mutex_);
  if (!refusal_.ok()) return refusal_;
  if (stats_.draining) return absl::UnavailableError("draining: no new requests");
  const std::string id = request.id;
  if (live_.count(id) > 0) return absl::AlreadyExistsError("request_id: " + id + " is live");
  if (script_) {
    for (OutputDelta& delta : script_(request)) Push({id, absl::OkStatus(), std::move(delta)});
  }
  live_.emplace(id, Live{std::move(request), std::move(callback)});
  changed_.notify_all();
  return absl::OkStatus();
}

bool FakeEngine::Abort(const std::string& request_id) {
  const std::lock_guard lock(mutex_);
  if (live_.count(request_id) == 0) return false;
  Push({request_id, absl::OkStatus(), Last(Delta("", {}), FinishReason::kAborted)});
  return true;
}

bool FakeEngine::Cancel(const std::string& request_id) {
  OutputCallback dies_outside;
  const std::lock_guard lock(mutex_);
  const auto it = live_.find(request_id);
  if (it == live_.end()) return false;
  dies_outside = std::move(it->second.callback);
  live_.erase(it);
  cancelled_.insert(request_id);
  changed_.notify_all();
  return true;
}

void FakeEngine::StartDrain() {
  const std::lock_guard lock(mutex_);
  stats_.draining = true;
}

void FakeEngine::FailAll(const std::string& why) {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, live] : live_) Push({id, absl::UnavailableError(why), {}});
}

EngineStats FakeEngine::Stats() const {
  const std::lock_guard lock(mutex_);
  EngineStats stats = stats_;
  stats.live = static_cast<int32_t>(live_.size());
  stats.running = stats.live;
  return stats;
}

void FakeEngine::RefuseWith(absl::Status status) {
  const std::lock_guard lock(mutex_);
  refusal_ = std::move(status);
}

void FakeEngine::SetProgressing(bool progressing) {
  const std::lock_guard lock(mutex_);
  stats_.progressing = progressing;
}

void FakeEngine::Say(const std::string& id, OutputDelta delta) {
  const std::lock_guard lock(mutex_);
  Push({id, absl::OkStatus(), std::move(delta)});
}

void FakeEngine::Fail(const std::string& id, absl::Status status) {
  const std::lock_guard lock(mutex_);
  Push({id, std::move(status), {}});
}

Request FakeEngine::AwaitRequest(const std::string& id) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return id.empty() ? !live_.empty() : live_.count(id) > 0; });
  return (id.empty() ? live_.begin() : live_.find(id))->second.request;
}

void FakeEngine::AwaitCancelled(const std::string& id) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return cancelled_.count(id) > 0; });
}

int FakeEngine::live() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(live_.size());
}

void FakeEngine::Push(News news) {
  news_.push_back(std::move(news));
  changed_.notify_all();
}

void FakeEngine::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || !news_.empty(); });
    if (stop_) return;
    News news = std::move(news_.front());
    news_.pop_front();
    const auto it = live_.find(news.id);
    if (it == live_.end()) continue;
    OutputCallback callback = it->second.callback;
    if (!news.status.ok() || news.delta.usage.has_value()) {
      live_.erase(it);
      changed_.notify_all();
    }
    lock.unlock();
    callback(news.status, std::move(news.delta));
    callback = nullptr;
    lock.lock();
  }
}

ExpertLoad FakeEngine::GetExpertLoad() const {
  const std::lock_guard lock(mutex_);
  return load_;
}

PlacementState FakeEngine::GetPlacement() const {
  const std::lock_guard lock(mutex_);
  return placement_;
}

void FakeEngine::ApplyPlacement(PlacementRequest request, PlacementCallback done) {
  std::function<void(PlacementRequest, PlacementCallback)> answer;
  PlacementChange change;
  {
    const std::lock_guard lock(mutex_);
    answer = on_apply_;
    if (!answer && !request.dry_run) {
      placement_.layers = request.layers;
      ++placement_.version;
    }
    change.version = placement_.version;
  }
  if (answer) {
    answer(std::move(request), std::move(done));
  } else {
    done(change);
  }
}

BalancingState FakeEngine::SetPaused(bool paused) {
  const std::lock_guard lock(mutex_);
  balancing_.paused = paused;
  return balancing_;
}

BalancingState FakeEngine::Balancing() const {
  const std::lock_guard lock(mutex_);
  return balancing_;
}

void FakeEngine::SetExpertLoad(ExpertLoad load) {
  const std::lock_guard lock(mutex_);
  load_ = std::move(load);
}

void FakeEngine::SetPlacement(PlacementState placement) {
  const std::lock_guard lock(mutex_);
  placement_ = std::move(placement);
}

void FakeEngine::OnApplyPlacement(std::function<void(PlacementRequest, PlacementCallback)> answer) {
  const std::lock_guard lock(mutex_);
  on_apply_ = std::move(answer);
}

}  // namespace ballast
