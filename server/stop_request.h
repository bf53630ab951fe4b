// Whether somebody asked the process to stop, by signals.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "server/log.h"

namespace ballast {

// A first signal before the model is loaded, and a second one at any time, end the process on the
// spot. Any thread.
class StopRequest {
 public:
  explicit StopRequest(Log& log) : log_(log) {}

  // The first, second, ... signal has come.
  void OnSignal(int count);
  void SetLoaded();
  // Waits for the request; false: it has not come within the limit.
  bool WaitFor(std::chrono::milliseconds limit);

 private:
  Log& log_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool loaded_ = false;  // guarded by mutex_
  bool asked_ = false;   // guarded by mutex_
};

}  // namespace ballast
