#include "server/signals.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

namespace ballast {
namespace {

// Wakes the thread so that it may see that it shall end.
constexpr int kEndSignal = SIGUSR1;

sigset_t HeldSignals() {
  sigset_t held;
  sigemptyset(&held);
  sigaddset(&held, SIGTERM);
  sigaddset(&held, SIGINT);
  sigaddset(&held, kEndSignal);
  return held;
}

}  // namespace

int StopCounter::Count(int signal, Time now) {
  if (count_ > 0 && signal == last_signal_ && now - last_time_ < kEcho) return 0;
  last_signal_ = signal;
  last_time_ = now;
  return ++count_;
}

StopSignals::StopSignals(std::function<void(int count)> on_signal) {
  signal(SIGPIPE, SIG_IGN);
  const sigset_t held = HeldSignals();
  pthread_sigmask(SIG_BLOCK, &held, nullptr);
  thread_ = std::thread([this, held, on_signal = std::move(on_signal)] {
    StopCounter counter;
    while (true) {
      int received = 0;
      if (sigwait(&held, &received) != 0) continue;
      if (received == kEndSignal) {
        if (ending_) return;
        continue;
      }
      const int count = counter.Count(received, std::chrono::steady_clock::now());
      if (count > 0) on_signal(count);
    }
  });
}

StopSignals::~StopSignals() {
  ending_ = true;
  pthread_kill(thread_.native_handle(), kEndSignal);
  thread_.join();
}

}  // namespace ballast
