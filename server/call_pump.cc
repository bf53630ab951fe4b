#include "server/call_pump.h"

#include <algorithm>
#include <utility>

namespace ballast {

using Clock = std::chrono::steady_clock;

CallPump::CallPump(std::chrono::milliseconds period, std::function<void()> on_tick)
    : period_(period), on_tick_(std::move(on_tick)) {}

CallPump::~CallPump() { Finish(); }

void CallPump::Start() {
  thread_ = std::thread([this] { Run(); });
}

void CallPump::Wake(std::shared_ptr<PumpedCall> call) {
  {
    const std::lock_guard lock(mutex_);
    woken_.push_back(std::move(call));
    none_ = false;
    if (woken_.size() > 1) return;  // the thread has been told already
  }
  wake_.notify_one();
}

void CallPump::WakeAt(Clock::time_point time, const std::shared_ptr<PumpedCall>& call) {
  timers_.emplace(time, call);
}

void CallPump::Tick() {
  {
    const std::lock_guard lock(mutex_);
    tick_ = true;
  }
  wake_.notify_one();
}

bool CallPump::AwaitNone(Clock::time_point until) {
  std::unique_lock lock(mutex_);
  return none_left_.wait_until(lock, until, [this] { return none_; });
}

void CallPump::Finish() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    finish_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

bool CallPump::Wait(Clock::time_point tick_at, Calls* woken) {
  const Clock::time_point until =
      timers_.empty() ? tick_at : std::min(tick_at, timers_.begin()->first);
  std::unique_lock lock(mutex_);
  wake_.wait_until(lock, until,
                   [this] { return !woken_.empty() || tick_ || (finish_ && live_.empty()); });
  woken->swap(woken_);
  const Clock::time_point now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    if (auto call = timers_.begin()->second.lock()) woken->push_back(std::move(call));
    timers_.erase(timers_.begin());
  }
  return std::exchange(tick_, false) || now >= tick_at;
}

void CallPump::Run() {
  Clock::time_point tick_at = Clock::now() + period_;
  Calls woken;
  for (;;) {
    const bool tick = Wait(tick_at, &woken);
    const Clock::time_point now = Clock::now();
    for (auto& call : woken) {
      if (call->Pump(now)) {
        live_.insert(std::move(call));
      } else {
        live_.erase(call);
      }
    }
    woken.clear();
    if (tick) {
      tick_at = now + period_;
      on_tick_();
      std::erase_if(live_, [now](const auto& call) { return !call->Pump(now); });
    }
    const std::lock_guard lock(mutex_);
    none_ = live_.empty() && woken_.empty();
    if (none_) none_left_.notify_all();
    if (finish_ && none_) return;
  }
}

}  // namespace ballast
