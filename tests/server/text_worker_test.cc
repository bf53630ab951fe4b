#include "server/text_worker.h"

#include <atomic>
#include <future>
#include <thread>

#include <gtest/gtest.h>

namespace ballast {
namespace {

TEST(TextWorker, ShortTextIsDoneOnTheCallersThread) {
  TextWorker worker;
  std::thread::id thread;
  ASSERT_TRUE(
      worker.Run(TextWorker::kInlineBytes, [&] { thread = std::this_thread::get_id(); }).ok());
  EXPECT_EQ(thread, std::this_thread::get_id());
}

TEST(TextWorker, LongTextDoesNotStandBeforeShorterText) {
  std::promise<void> release;
  std::promise<void> short_done;
  std::future<void> released = release.get_future();
  TextWorker worker;  // ends its threads before what they use dies
  ASSERT_TRUE(worker.Run(TextWorker::kLongBytes + 1, [&] { released.wait(); }).ok());
  ASSERT_TRUE(worker.Run(TextWorker::kInlineBytes + 1, [&] { short_done.set_value(); }).ok());
  short_done.get_future().wait();
  release.set_value();
}

TEST(TextWorker, AFullQueueRefusesAndFreesUp) {
  TextWorker worker;
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  std::atomic<int> done = 0;
  const auto work = [released, &done] {
    released.wait();
    ++done;
  };
  ASSERT_TRUE(worker.Run(TextWorker::kQueuedBytes - 1, work).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(worker.Run(TextWorker::kLongBytes + 1, work)));
  release.set_value();
  worker.Finish();
  EXPECT_EQ(done, 1);
}

TEST(TextWorker, FinishRunsWhatIsQueued) {
  TextWorker worker;
  std::atomic<int> done = 0;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(worker.Run(TextWorker::kInlineBytes + 1, [&done] { ++done; }).ok());
  }
  worker.Finish();
  EXPECT_EQ(done, 100);
  ASSERT_TRUE(worker.Run(TextWorker::kInlineBytes + 1, [&done] { ++done; }).ok());
  EXPECT_EQ(done, 101);
}

}  // namespace
}  // namespace ballast
