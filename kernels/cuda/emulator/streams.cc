#include "kernels/cuda/emulator/streams.h"

#include <algorithm>
#include <utility>

namespace ballast::emulator {

Stream* Streams::Create(int device) {
  const std::lock_guard lock(mutex_);
  streams_.push_back(std::make_unique<Stream>());
  streams_.back()->device = device;
  if (faults_.size() <= static_cast<size_t>(device)) faults_.resize(device + 1);
  return streams_.back().get();
}

void Streams::Destroy(Stream* stream) {
  Drain(stream);
  const std::lock_guard lock(mutex_);
  std::erase_if(streams_, [stream](const auto& held) { return held.get() == stream; });
}

bool Streams::Has(const Stream* stream) {
  const std::lock_guard lock(mutex_);
  return std::any_of(streams_.begin(), streams_.end(),
                     [stream](const auto& held) { return held.get() == stream; });
}

void Streams::Enqueue(Stream* stream, Operation operation) {
  if (stream->capture != nullptr) return stream->capture->push_back(std::move(operation));
  const std::lock_guard lock(mutex_);
  stream->queue.push_back(std::move(operation));
  changed_.notify_all();
}

void Streams::Record(Stream* stream, std::shared_ptr<Event> event) {
  uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = ++event->recorded;
  }
  Enqueue(stream, {[this, event = std::move(event), number] {
            const std::lock_guard lock(mutex_);
            event->completed = std::max(event->completed, number);
            return std::string();
          }});
}

void Streams::WaitFor(Stream* stream, std::shared_ptr<Event> event) {
  uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = event->recorded;
  }
  Enqueue(stream, {[] { return std::string(); },
                   [event = std::move(event), number] { return event->completed >= number; }});
}

void Streams::Drain(Stream* stream) {
  RunUntil([stream] { return stream->queue.empty(); });
}

void Streams::Drain(const Event& event) {
  RunUntil([&event] { return event.completed >= event.recorded; });
}

void Streams::DrainDevice(int device) {
  RunUntil([this, device] {
    return std::all_of(streams_.begin(), streams_.end(), [device](const auto& stream) {
      return stream->device != device || stream->queue.empty();
    });
  });
}

std::string Streams::Fault(int device) {
  const std::lock_guard lock(mutex_);
  return static_cast<size_t>(device) < faults_.size() ? faults_[device] : "";
}

Stream* Streams::Pick() {
  std::vector<Stream*> may_run;
  for (const auto& stream : streams_) {
    if (stream->queue.empty() || stream->running) continue;
    const Operation& next = stream->queue.front();
    if (next.ready == nullptr || next.ready()) may_run.push_back(stream.get());
  }
  return may_run.empty() ? nullptr : may_run[random_() % may_run.size()];
}

void Streams::RunUntil(const std::function<bool()>& done) {
  std::unique_lock lock(mutex_);
  while (!done()) {
    Stream* const stream = Pick();
    if (stream == nullptr) {
      changed_.wait(lock);  // for another thread's operation, or for its enqueueing one
      continue;
    }
    RunFront(stream, lock);
  }
}

void Streams::RunOne() {
  std::unique_lock lock(mutex_);
  if (Stream* const stream = Pick(); stream != nullptr) RunFront(stream, lock);
}

void Streams::RunFront(Stream* stream, std::unique_lock<std::mutex>& lock) {
  stream->running = true;
  const std::function<std::string()> run = stream->queue.front().run;
  lock.unlock();
  const std::string fault = run();
  lock.lock();
  stream->queue.pop_front();
  stream->running = false;
  if (!fault.empty() && faults_[stream->device].empty()) faults_[stream->device] = fault;
  changed_.notify_all();
}

bool Streams::Idle(const Stream& stream) {
  const std::lock_guard lock(mutex_);
  return stream.queue.empty();
}

bool Streams::Completed(const Event& event) {
  const std::lock_guard lock(mutex_);
  return event.completed >= event.recorded;
}

void Streams::Wake() {
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

}  // namespace ballast::emulator
