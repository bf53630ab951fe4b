#include "kernels/cpu/threads.h"

#include <emmintrin.h>

#include <chrono>

namespace ballast {
namespace {

// Longer than the gap between two loops of a layer, shorter than a time slice.
constexpr auto kSpin = std::chrono::microseconds(40);
constexpr int kPausesPerClockRead = 32;

// Threads of all pools: the processors they compete for are the process's, not a pool's.
std::atomic<unsigned> pool_threads{0};

// True as soon as done() is; false when `may_spin` is not set or the time is over.
template <class Done>
bool SpinUntil(bool may_spin, const Done& done) {
  if (done()) return true;
  if (!may_spin) return false;
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kPausesPerClockRead; ++i) {
      if (done()) return true;
      _mm_pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

uint32_t LoopOf(uint64_t gate) { return static_cast<uint32_t>(gate >> 32); }

}  // namespace

ThreadPool::ThreadPool(int threads) {
  pool_threads += static_cast<unsigned>(threads);
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { Work(i); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_workers_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  pool_threads -= static_cast<unsigned>(workers_.size() + 1);
}

bool ThreadPool::MaySpin() const {
  static const unsigned processors = std::thread::hardware_concurrency();
  return pool_threads.load(std::memory_order_relaxed) <= processors;
}

void ThreadPool::Run(int64_t num_items, const void* context, Function function) {
  if (workers_.empty() || num_items <= 1) {
    for (int64_t item = 0; item < num_items; ++item) function(context, item, 0);
    return;
  }
  function_ = function;
  context_ = context;
  num_items_ = num_items;
  next_item_.store(0, std::memory_order_relaxed);
  finished_.store(0, std::memory_order_relaxed);
  const uint64_t loop = LoopOf(gate_.load(std::memory_order_relaxed)) + uint64_t{1};
  // Sequentially consistent, as is AwaitLoop: either the sleeper sees the new loop or we see it.
  gate_.store(loop << 32, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) {
    std::lock_guard lock(mutex_);
    wake_workers_.notify_all();
  }
  TakeItems(0);
  const uint64_t closed = gate_.fetch_or(kClosed, std::memory_order_acq_rel);
  AwaitWorkers(static_cast<uint32_t>(closed & (kClosed - 1)));
}

void ThreadPool::TakeItems(int thread) {
  for (;;) {
    const int64_t item = next_item_.fetch_add(1, std::memory_order_relaxed);
    if (item >= num_items_) return;
    function_(context_, item, thread);
  }
}

void ThreadPool::Work(int thread) {
  uint32_t seen = 0;
  while (AwaitLoop(seen)) {
    uint64_t gate = gate_.load(std::memory_order_acquire);
    seen = LoopOf(gate);
    bool inside = false;
    while (!inside && (gate & kClosed) == 0 && LoopOf(gate) == seen) {
      inside = gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel);
    }
    if (!inside) continue;
    TakeItems(thread);
    finished_.fetch_add(1, std::memory_order_seq_cst);
    if (caller_sleeps_.load(std::memory_order_seq_cst)) {
      std::lock_guard lock(mutex_);
      wake_caller_.notify_one();
    }
  }
}

bool ThreadPool::AwaitLoop(uint32_t seen) {
  const auto changed = [&] {
    return LoopOf(gate_.load(std::memory_order_seq_cst)) != seen ||
           ending_.load(std::memory_order_relaxed);
  };
  if (!SpinUntil(MaySpin(), changed)) {
    std::unique_lock lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    wake_workers_.wait(lock, changed);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }
  return !ending_.load(std::memory_order_relaxed);
}

void ThreadPool::AwaitWorkers(uint32_t joined) {
  const auto done = [&] { return finished_.load(std::memory_order_seq_cst) == joined; };
  if (SpinUntil(MaySpin(), done)) return;
  std::unique_lock lock(mutex_);
  caller_sleeps_.store(true, std::memory_order_seq_cst);
  wake_caller_.wait(lock, done);
  caller_sleeps_.store(false, std::memory_order_relaxed);
}

}  // namespace ballast
