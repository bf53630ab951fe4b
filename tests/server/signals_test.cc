#include "server/signals.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <vector>

namespace ballast {
namespace {

TEST(Signals, EachIsCountedAndNobodyDies) {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<int> counts;
  {
    const StopSignals signals([&](int count) {
      const std::lock_guard lock(mutex);
      counts.push_back(count);
      changed.notify_all();
    });
    kill(getpid(), SIGUSR1);  // wakes the thread, and ends nothing
    for (const size_t wanted : {size_t{1}, size_t{2}}) {
      kill(getpid(), wanted == 1 ? SIGTERM : SIGINT);
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return counts.size() == wanted; });
    }
    kill(getpid(), SIGPIPE);
  }
  EXPECT_EQ(counts, (std::vector<int>{1, 2}));
}

TEST(Signals, ASignalAndItsEchoAreOneRequest) {
  const StopCounter::Time start{};
  const auto ms = [start](int count) { return start + std::chrono::milliseconds(count); };
  StopCounter counter;
  EXPECT_EQ(counter.Count(SIGTERM, start), 1);
  EXPECT_EQ(counter.Count(SIGTERM, ms(1)), 0);
  EXPECT_EQ(counter.Count(SIGTERM, ms(199)), 0);
  EXPECT_EQ(counter.Count(SIGTERM, ms(200)), 2);
  EXPECT_EQ(counter.Count(SIGINT, ms(201)), 3);
}

}  // namespace
}  // namespace ballast
