#include "server/stop_request.h"

#include <cstdlib>

#include "server/commands.h"

namespace ballast {

void StopRequest::OnSignal(int count) {
  const std::lock_guard lock(mutex_);
  if (count > 1) {
    log_.Warning("stopped at once by a second signal");
    std::_Exit(kFailed);
  }
  if (!loaded_) {
    log_.Info("stopped while loading");
    std::_Exit(kDone);
  }
  asked_ = true;
  changed_.notify_all();
}

void StopRequest::SetLoaded() {
  const std::lock_guard lock(mutex_);
  loaded_ = true;
}

bool StopRequest::WaitFor(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, limit, [this] { return asked_; });
}

}  // namespace ballast
