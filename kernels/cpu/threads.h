// A fixed pool of threads that share out the items of one loop at a time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace ballast {

// `threads` counts the caller, so threads - 1 are started. One caller at a time.
//
// Between loops a worker spins for some tens of microseconds, the usual distance between two calls
// within a layer, and then sleeps. It does not spin when the pools of this process have more
// threads than there are processors, since it would keep others from running.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(item, thread) for items 0 .. num_items - 1, each once, handed out in order to
  // whoever is free; thread is 0 (the caller) .. threads() - 1. Returns when all are done and
  // their writes are visible. Does not allocate.
  template <class Body>
  void For(int64_t num_items, const Body& body) {
    Run(num_items, &body, [](const void* context, int64_t item, int thread) {
      (*static_cast<const Body*>(context))(item, thread);
    });
  }

 private:
  using Function = void (*)(const void* context, int64_t item, int thread);

  void Run(int64_t num_items, const void* context, Function function);
  void TakeItems(int thread);
  void Work(int thread);
  // Waits until the loop numbered `seen` is no longer the newest; false when the pool is ending.
  bool AwaitLoop(uint32_t seen);
  void AwaitWorkers(uint32_t joined);
  bool MaySpin() const;

  // The gate of the current loop: number of the loop << 32 | closed << 31 | workers inside. A
  // worker takes part only if it gets in before the caller closes it, so nobody waits for a
  // sleeper.
  static constexpr uint64_t kClosed = uint64_t{1} << 31;
  alignas(64) std::atomic<uint64_t> gate_{kClosed};
  alignas(64) std::atomic<int64_t> next_item_{0};
  alignas(64) std::atomic<uint32_t> finished_{0};

  Function function_ = nullptr;
  const void* context_ = nullptr;
  int64_t num_items_ = 0;

  std::mutex mutex_;
  std::condition_variable wake_workers_;
  std::condition_variable wake_caller_;
  std::atomic<int> sleepers_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> ending_{false};
  std::vector<std::thread> workers_;
};

}  // namespace ballast
