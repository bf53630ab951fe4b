// One thread that makes all operations of long calls (StartWrite, Finish, TryCancel).
//
// gRPC allows no operation after Finish, and news of a call comes from three sides: the engine's
// loop, gRPC's threads and the clock. So they only change the call's state under its lock and wake
// the pump; the pump alone acts. It also keeps serialisation and system calls off the engine's
// loop, and gives every live call a look when the clock ticks.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <vector>

namespace ballast {

class PumpedCall {
 public:
  virtual ~PumpedCall() = default;
  // Does what is due. On the pump's thread only. False: gRPC is done with the call; the pump lets
  // go of it, and with that it may die.
  virtual bool Pump(std::chrono::steady_clock::time_point now) = 0;
};

class CallPump {
 public:
  // `on_tick` runs on the pump's thread every `period`, before the calls, from Start on.
  CallPump(std::chrono::milliseconds period, std::function<void()> on_tick);
  ~CallPump();

  void Start();  // once, when all that `on_tick` uses stands

  // Pumps `call` soon, and keeps it alive until its Pump returns false. Any thread; does not block.
  void Wake(std::shared_ptr<PumpedCall> call);
  // Pumps `call` at that time too, if it is alive then. From Pump only.
  void WakeAt(std::chrono::steady_clock::time_point time, const std::shared_ptr<PumpedCall>& call);
  // Ticks soon.
  void Tick();
  // Waits until no call is under way. False: some still were at `until`. Any thread.
  bool AwaitNone(std::chrono::steady_clock::time_point until);
  // Returns when no call is left and ends the thread. Once, and no Wake of a new call may follow;
  // those of calls that are over are ignored.
  void Finish();

 private:
  using Calls = std::vector<std::shared_ptr<PumpedCall>>;
  void Run();
  // Waits for something to do; true when it is time for a tick.
  bool Wait(std::chrono::steady_clock::time_point tick_at, Calls* woken);

  const std::chrono::milliseconds period_;
  const std::function<void()> on_tick_;
  std::mutex mutex_;
  std::condition_variable wake_;
  Calls woken_;          // guarded by mutex_
  bool tick_ = false;    // guarded by mutex_
  bool finish_ = false;  // guarded by mutex_
  bool none_ = true;     // guarded by mutex_; no call lives or is woken
  std::condition_variable none_left_;
  // The thread's own.
  std::unordered_set<std::shared_ptr<PumpedCall>> live_;
  std::multimap<std::chrono::steady_clock::time_point, std::weak_ptr<PumpedCall>> timers_;
  std::thread thread_;
};

}  // namespace ballast
