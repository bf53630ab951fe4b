#include "server/stop_request.h"

#include <cstdlib>
#include <functional>
#include <future>
#include <thread>

#include "server/commands.h"

namespace ballast {
namespace {

// Ends the process. Whoever reads the log may have stopped reading, and then no line gets out.
[[noreturn]] void EndWith(int code, const std::function<void()>& last_words) {
  constexpr std::chrono::milliseconds kLastWords(500);
  std::promise<void> said;
  std::future<void> done = said.get_future();
  std::thread([&] {
    last_words();
    said.set_value();
  }).detach();
  done.wait_for(kLastWords);
  std::_Exit(code);
}

}  // namespace

void StopRequest::OnSignal(int count) {
  const std::lock_guard lock(mutex_);
  if (count > 1) {
    EndWith(kFailed, [this] { log_.Warning("stopped at once by a second signal"); });
  }
  if (!loaded_) {
    EndWith(kDone, [this] { log_.Info("stopped while loading"); });
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
