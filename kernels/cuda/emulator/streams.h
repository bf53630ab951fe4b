// Streams and events of the emulated GPUs.
//
// Nothing runs when it is enqueued. Whoever waits runs operations: of all streams whose next one
// may run, one is drawn at random, so that two operations that no event orders come in either
// order, and as late as the rules allow. What was forgotten to be ordered shows.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

namespace ballast::emulator {

// One completion that streams may wait for. A new record replaces the one before.
struct Event {
  uint64_t recorded = 0;  // records so far
  uint64_t completed = 0;
};

struct Operation {
  // Returns what was wrong, or "". Runs without a lock, on any thread that waits.
  std::function<std::string()> run;
  // Whether it may run yet: an event, a peer. Under the lock; null: always.
  std::function<bool()> ready = nullptr;
};

struct Stream {
  int device = 0;
  // Where what is enqueued is recorded instead (graphs.cc); null: nowhere. Its own thread's.
  std::unique_ptr<std::vector<Operation>> capture;
  std::deque<Operation> queue;
  bool running = false;  // its front is being run
};

// All streams of the process. Any thread.
class Streams {
 public:
  explicit Streams(uint64_t seed) : random_(seed) {}

  Stream* Create(int device);
  // Runs what is left first.
  void Destroy(Stream* stream);
  bool Has(const Stream* stream);

  void Enqueue(Stream* stream, Operation operation);
  void Record(Stream* stream, std::shared_ptr<Event> event);
  // What `stream` is given from now on runs after what `event` stood for when this was called.
  void WaitFor(Stream* stream, std::shared_ptr<Event> event);

  // Runs operations of any stream until this one has none left; others wait meanwhile on peers.
  void Drain(Stream* stream);
  void Drain(const Event& event);
  void DrainDevice(int device);

  // Runs one operation of any stream, if one may run: for who asks and does not wait.
  void RunOne();
  bool Idle(const Stream& stream);
  bool Completed(const Event& event);
  // What an operation's `ready` looks at has changed outside of all operations.
  void Wake();

  // What the first operation that failed on a device said, or "".
  std::string Fault(int device);

 private:
  void RunUntil(const std::function<bool()>& done);
  Stream* Pick();
  void RunFront(Stream* stream, std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::mt19937_64 random_;  // guarded by mutex_, as are all below
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<std::string> faults_;  // [devices met]
};

}  // namespace ballast::emulator
