// SIGTERM and SIGINT, taken by a thread instead of interrupting one.
#pragma once

#include <atomic>
#include <functional>
#include <thread>

namespace ballast {

// Holds both signals back in the calling thread and every thread it starts afterwards, so make it
// before any other thread; also ignores SIGPIPE. At most one at a time.
class StopSignals {
 public:
  // `on_signal(count)` runs on a thread of its own for the first, second, ... signal.
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
