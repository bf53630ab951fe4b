#include "kernels/cpu/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <vector>

namespace ballast {
namespace {

TEST(ThreadPool, EveryItemRunsOnce) {
  for (const int threads : {1, 2, 4, 9}) {
    ThreadPool pool(threads);
    for (const int64_t items : {0, 1, 2, 3, 100}) {
      std::vector<int> runs(static_cast<size_t>(items));
      pool.For(items, [&](int64_t item, int thread) {
        ASSERT_GE(thread, 0);
        ASSERT_LT(thread, threads);
        ++runs[static_cast<size_t>(item)];  // plain: each item is one thread's
      });
      EXPECT_EQ(runs, std::vector<int>(static_cast<size_t>(items), 1));
    }
  }
}

TEST(ThreadPool, ALoopSeesWhatTheLastOneWrote) {
  ThreadPool pool(4);
  std::vector<int64_t> values(64);
  for (int loop = 0; loop < 3000; ++loop) {
    // Each item reads what some other thread wrote in the loop before.
    std::vector<int64_t> next(64);
    pool.For(64, [&](int64_t i, int) {
      next[static_cast<size_t>(i)] = values[static_cast<size_t>((i + 1) % 64)] + 1;
    });
    values = next;
  }
  EXPECT_EQ(values, std::vector<int64_t>(64, 3000));
}

TEST(ThreadPool, WakesSleepersAfterAPause) {
  ThreadPool pool(3);
  for (int loop = 0; loop < 20; ++loop) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // longer than workers spin
    std::atomic<int> started{0};
    // Three items that each wait for the others: only three threads together can finish.
    pool.For(3, [&](int64_t, int) {
      ++started;
      while (started < 3) std::this_thread::yield();
    });
    EXPECT_EQ(started, 3);
  }
}

TEST(ThreadPool, PoolsWorkSideBySide) {
  ThreadPool first(2);
  std::atomic<int64_t> sum{0};
  std::thread other([&] {
    ThreadPool second(2);
    for (int i = 0; i < 200; ++i) second.For(10, [&](int64_t item, int) { sum += item; });
  });
  for (int i = 0; i < 200; ++i) first.For(10, [&](int64_t item, int) { sum += item; });
  other.join();
  EXPECT_EQ(sum, 400 * 45);
}

}  // namespace
}  // namespace ballast
