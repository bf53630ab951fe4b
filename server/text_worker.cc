#include "server/text_worker.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace ballast {

TextWorker::TextWorker() {
  for (Lane& lane : lanes_) lane.thread = std::thread([&lane] { RunLane(&lane); });
}

TextWorker::~TextWorker() { Finish(); }

absl::Status TextWorker::Run(size_t bytes, std::function<void()> work) {
  if (bytes <= kInlineBytes) {
    work();
    return absl::OkStatus();
  }
  Lane& lane = lanes_[bytes <= kLongBytes ? 0 : 1];
  {
    std::unique_lock lock(lane.mutex);
    if (lane.finish) {
      lock.unlock();
      work();
      return absl::OkStatus();
    }
    if (lane.bytes + bytes > kQueuedBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the text queue is full: ", lane.bytes, " bytes of at most ", kQueuedBytes,
                       " wait to be encoded, this text has ", bytes));
    }
    lane.bytes += bytes;
    lane.queue.push_back({bytes, std::move(work)});
  }
  lane.wake.notify_one();
  return absl::OkStatus();
}

void TextWorker::Finish() {
  for (Lane& lane : lanes_) {
    {
      const std::lock_guard lock(lane.mutex);
      lane.finish = true;
    }
    lane.wake.notify_one();
  }
  for (Lane& lane : lanes_) {
    if (lane.thread.joinable()) lane.thread.join();
  }
}

void TextWorker::RunLane(Lane* lane) {
  std::unique_lock lock(lane->mutex);
  for (;;) {
    lane->wake.wait(lock, [lane] { return lane->finish || !lane->queue.empty(); });
    if (lane->queue.empty()) return;
    Work work = std::move(lane->queue.front());
    lane->queue.pop_front();
    lock.unlock();
    work.run();
    work.run = nullptr;  // what it holds dies outside the lock
    lock.lock();
    lane->bytes -= work.bytes;
  }
}

}  // namespace ballast
