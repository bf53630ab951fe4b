#include "kernels/cuda/emulator/block.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <numeric>
#include <utility>

#include "kernels/cuda/emulator/checkers.h"

namespace ballast::emulator {
namespace {

std::string NameOf(Place place) {
  return std::string(place.file) + ":" + std::to_string(place.line);
}

std::string NameOf(const uint3& index) {
  return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," +
         std::to_string(index.z) + ")";
}

// Whole vectors, so that memory is aligned as shared memory is; the last may reach past `bytes`.
size_t VectorsFor(size_t bytes) { return (bytes + sizeof(float4) - 1) / sizeof(float4); }

void PoisonAll(std::vector<float4>& memory) {
  if (!memory.empty()) Poison(memory.data(), memory.size() * sizeof(float4));
}

// Names of files are compared where they are not the same literal.
bool IsSame(Place a, Place b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

bool IsAligned(const void* pointer, size_t alignment) {
  return reinterpret_cast<uintptr_t>(pointer) % alignment == 0;
}

}  // namespace

std::string Block::Run(const BlockShape& shape, uint3 index, uint64_t seed,
                       const std::function<void()>& body) {
  [[maybe_unused]] const Unwatched own;
  index_ = index;
  Begin(shape, seed, body);
  current_ = this;
  if (fault_.empty()) RunThreads();
  for (const auto& fiber : fibers_) fiber->Abandon();
  if constexpr (kFindsRaces) Forget();
  current_ = nullptr;
  return fault_.empty() ? "" : "block " + NameOf(index) + ": " + fault_;
}

void Block::Begin(const BlockShape& shape, uint64_t seed, const std::function<void()>& body) {
  shape_ = &shape;
  fault_.clear();
  random_.seed(seed);
  const size_t count = size_t{shape.block.x} * shape.block.y * shape.block.z;
  threads_.resize(count);
  while (fibers_.size() < count) fibers_.push_back(std::make_unique<Fiber>(fibers_.size()));
  for (size_t i = 0; i < count; ++i) {
    const auto number = static_cast<unsigned>(i);
    Thread& thread = threads_[i];
    thread.number = static_cast<int>(i);
    thread.index = {number % shape.block.x, number / shape.block.x % shape.block.y,
                    number / (shape.block.x * shape.block.y)};
    thread.state = Thread::State::kReady;
    thread.copies.clear();
    thread.copy_group = 0;
    fibers_[i]->Start(body);
  }
  dynamic_shared_.assign(VectorsFor(shape.dynamic_shared_bytes), {});
  PoisonAll(dynamic_shared_);
  for (auto& [tag, variable] : static_shared_) variable.used = false;
  shared_bytes_ = shape.dynamic_shared_bytes;
}

// Blocks share nothing but global memory. To ThreadSanitizer, memory is fresh once it was given
// back; a thread is not: its number goes to a later one, which then seems to be the same.
void Block::Forget() {
  constexpr size_t kMaxEnded = 4096;  // ThreadSanitizer has numbers for twice as many
  if (ended_.size() + fibers_.size() > kMaxEnded) ended_.clear();
  std::move(fibers_.begin(), fibers_.end(), std::back_inserter(ended_));
  fibers_.clear();
  threads_ = std::vector<Thread>();
  dynamic_shared_ = std::vector<float4>();
  static_shared_.clear();
}

void Block::EndLaunch() {
  [[maybe_unused]] const Unwatched own;
  ended_.clear();
}

void Block::RunThreads() {
  // Warps with a thread that is ready. Only a barrier makes threads of other warps ready than the
  // one that runs, and then all of them.
  std::vector<int> ready;
  const auto all_are_ready = [&] {
    ready.resize((threads_.size() + kWarpLanes - 1) / kWarpLanes);
    std::iota(ready.begin(), ready.end(), 0);
  };
  all_are_ready();
  while (fault_.empty()) {
    if (!ready.empty()) {
      int& warp = ready[random_() % ready.size()];
      if (RunWarp(warp)) continue;
      warp = ready.back();
      ready.pop_back();
    } else if (ReleaseBarrier()) {
      all_are_ready();
    } else {
      const bool ended = std::all_of(threads_.begin(), threads_.end(), [](const Thread& thread) {
        return thread.state == Thread::State::kDone;
      });
      if (!ended) fault_ = Stuck();
      return;
    }
  }
}

bool Block::RunWarp(int warp) {
  const int begin = warp * kWarpLanes;
  const int lanes = std::min(kWarpLanes, static_cast<int>(threads_.size()) - begin);
  const int first = static_cast<int>(random_() % lanes);
  for (int i = 0; i < lanes && fault_.empty(); ++i) {
    Thread& thread = threads_[begin + (first + i) % lanes];
    if (thread.state != Thread::State::kReady) continue;
    thread_ = &thread;
    Fiber& fiber = *fibers_[thread.number];
    fiber.Resume();
    if (!fiber.done()) continue;
    thread.state = Thread::State::kDone;
    if (!thread.copies.empty() && fault_.empty()) {
      fault_ = "thread " + NameOf(thread.index) + " ended without waiting for its cp.async";
    }
  }
  for (int i = 0; i < lanes && fault_.empty(); ++i) {
    Thread& thread = threads_[begin + i];
    if (thread.state == Thread::State::kAtWarp) FinishExchange(thread);
  }
  const Thread* const lane = &threads_[begin];
  return std::any_of(lane, lane + lanes,
                     [](const Thread& thread) { return thread.state == Thread::State::kReady; });
}

void Block::FinishExchange(Thread& thread) {
  WarpExchange* lanes[kWarpLanes] = {};
  const int begin = thread.warp() * kWarpLanes;
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    if ((thread.mask >> lane & 1) == 0) continue;
    const size_t number = begin + lane;
    const bool ended = number >= threads_.size() || threads_[number].state == Thread::State::kDone;
    if (ended) {
      fault_ = NameOf(thread.place) + ": thread " + NameOf(thread.index) + " waits for lane " +
               std::to_string(lane) + ", which has ended or never was";
      return;
    }
    Thread& other = threads_[number];
    if (other.state != Thread::State::kAtWarp) return;  // not here yet
    if (other.mask != thread.mask || other.finish != thread.finish ||
        other.argument != thread.argument) {
      fault_ = "lanes of one warp disagree: " + NameOf(thread.place) + " at thread " +
               NameOf(thread.index) + ", " + NameOf(other.place) + " at thread " +
               NameOf(other.index);
      return;
    }
    lanes[lane] = &other.exchange;
  }
  thread.finish(lanes, thread.mask, thread.argument);
  const uint32_t mask = thread.mask;
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    if ((mask >> lane & 1) != 0) threads_[begin + lane].state = Thread::State::kReady;
  }
}

bool Block::ReleaseBarrier() {
  const Thread& first = threads_.front();
  for (const Thread& thread : threads_) {
    if (thread.state != Thread::State::kAtBarrier || !IsSame(thread.place, first.place)) {
      return false;
    }
  }
  for (Thread& thread : threads_) thread.state = Thread::State::kReady;
  threads_.front().points.Flip();
  return true;
}

std::string Block::Stuck() const {
  const auto waits = std::find_if(threads_.begin(), threads_.end(), [](const Thread& thread) {
    return thread.state != Thread::State::kDone;
  });
  std::string what = NameOf(waits->place) + ": thread " + NameOf(waits->index) + " waits, ";
  for (const Thread& other : threads_) {
    if (other.state == Thread::State::kDone) {
      return what + "thread " + NameOf(other.index) + " has ended";
    }
    if (other.place.line != waits->place.line) {
      return what + "thread " + NameOf(other.index) + " waits at " + NameOf(other.place);
    }
  }
  return what + "with lanes that never come";
}

void Block::Wait(Thread::State state, Place place) {
  Thread& thread = *thread_;
  thread.state = state;
  thread.place = place;
  fibers_[thread.number]->Wait();
}

void Block::Fail(Place place, const std::string& what) {
  fault_ = NameOf(place) + ": thread " + NameOf(thread_->index) + ": " + what;
  Fiber& fiber = *fibers_[thread_->number];
  while (true) fiber.Wait();  // unwound from here
}

void Block::Barrier(Place place) {
  void* const point = threads_.front().points.Next();
  Publish(point);
  Wait(Thread::State::kAtBarrier, place);
  Observe(point);
}

WarpExchange& Block::Exchange(uint32_t mask, Place place, FinishWarp finish, int argument) {
  Thread& thread = *thread_;
  if ((mask >> thread.lane() & 1) == 0) {
    Fail(place, "lane " + std::to_string(thread.lane()) + " is not in its own mask");
  }
  thread.mask = mask;
  thread.finish = finish;
  thread.argument = argument;
  Wait(Thread::State::kAtWarp, place);
  return thread.exchange;
}

void Block::SyncWarp(uint32_t mask, Place place) {
  const auto finish = [](WarpExchange* const* lanes, uint32_t among, int) {
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      if ((among >> lane & 1) != 0) lanes[lane]->points.Flip();
    }
  };
  Publish(thread_->exchange.points.Next());
  Exchange(mask, place, finish, 0);
  if constexpr (kFindsRaces) {
    const size_t begin = static_cast<size_t>(thread_->warp()) * kWarpLanes;
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      if ((mask >> lane & 1) != 0) Observe(threads_[begin + lane].exchange.points.Last());
    }
  }
}

void* Block::Shared(const void* tag, size_t bytes, size_t alignment) {
  [[maybe_unused]] const Unwatched own;
  Static& variable = static_shared_[tag];
  if (!variable.used) {
    variable.used = true;
    variable.memory.resize(VectorsFor(bytes));
    PoisonAll(variable.memory);
    shared_bytes_ += (bytes + alignment - 1) / alignment * alignment;
    if (shared_bytes_ > kMaxSharedBytes) {
      Fail({}, "shared memory: " + std::to_string(shared_bytes_) + " bytes, more than " +
                   std::to_string(kMaxSharedBytes));
    }
  }
  return variable.memory.data();
}

void Block::CopyAsync(void* to, const void* from, size_t bytes, size_t read, Place place) {
  if (!IsAligned(to, bytes) || !IsAligned(from, bytes)) {
    Fail(place, "cp.async of " + std::to_string(bytes) + " bytes that are not aligned so");
  }
  if (read > bytes) {
    Fail(place,
         "cp.async reads " + std::to_string(read) + " bytes and writes " + std::to_string(bytes));
  }
  Poison(to, bytes);
  WatchWrite(to, bytes);
  thread_->copies.push_back({to, from, bytes, read, thread_->copy_group});
}

void Block::WaitForCopies(int left) {
  std::vector<PendingCopy>& copies = thread_->copies;
  const int done = thread_->copy_group - left;
  const auto rest = std::find_if(copies.begin(), copies.end(),
                                 [done](const PendingCopy& copy) { return copy.group >= done; });
  for (auto copy = copies.begin(); copy != rest; ++copy) {
    WatchRead(copy->from, copy->read);
    WatchWrite(copy->to, copy->bytes);
    std::memcpy(copy->to, copy->from, copy->read);
    std::memset(static_cast<char*>(copy->to) + copy->read, 0, copy->bytes - copy->read);
  }
  copies.erase(copies.begin(), rest);
}

}  // namespace ballast::emulator
