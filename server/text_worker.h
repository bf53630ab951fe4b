// Threads for long text work (encoding, decoding), so that gRPC's own are never held by it.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "engine/status.h"

namespace ballast {

// Text of up to kInlineBytes is done on the caller's thread: a few milliseconds. Longer text goes
// to one of two threads by its length, so that a text of 64 MiB (13 s at 5 MB/s) does not stand
// before one of 100 KiB. Both queues are bounded by bytes.
class TextWorker {
 public:
  static constexpr size_t kInlineBytes = 16 << 10;
  static constexpr size_t kLongBytes = 1 << 20;
  static constexpr size_t kQueuedBytes = 256 << 20;  // a lane's; four of the longest texts

  TextWorker();
  // Runs what is queued, then ends the threads.
  ~TextWorker();

  // Runs `work` once, now or later, for a text of `bytes`. RESOURCE_EXHAUSTED when the queue is
  // full; then it does not run. Any thread.
  absl::Status Run(size_t bytes, std::function<void()> work);
  // Runs what is queued, then ends the threads; later work runs on its caller's thread.
  void Finish();

 private:
  struct Work {
    size_t bytes;
    std::function<void()> run;
  };
  struct Lane {
    std::mutex mutex;
    std::condition_variable wake;
    std::deque<Work> queue;  // guarded by mutex, as the next two
    size_t bytes = 0;        // queued or running
    bool finish = false;
    std::thread thread;
  };
  static void RunLane(Lane* lane);

  std::array<Lane, 2> lanes_;  // short, long
};

}  // namespace ballast
