// SIGTERM and SIGINT, taken by a thread instead of interrupting one.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

namespace ballast {

// Counts requests to stop. One request may be two signals: `timeout` and some supervisors send
// theirs to the process and, at once, to its group. Pure.
class StopCounter {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::milliseconds kEcho{200};

  // How many requests there are with this signal; 0: it is the last one's echo, the same signal
  // again within kEcho.
  int Count(int signal, Time now);

 private:
  int count_ = 0;
  int last_signal_ = 0;
  Time last_time_;
};

// Holds both signals back in the calling thread and every thread it starts afterwards, so make it
// before any other thread; also ignores SIGPIPE. At most one at a time.
class StopSignals {
 public:
  // `on_signal(count)` runs on a thread of its own for the first, second, ... request to stop.
  explicit StopSignals(std::function<void(int count)> on_signal);
  // Waits for a call under way; the signals stay held back.
  ~StopSignals();

  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

}  // namespace ballast
