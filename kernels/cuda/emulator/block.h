// A block of a kernel: its threads as fibers of one host thread, its shared memory, its barriers.
//
// What hardware leaves open is drawn at random from a seed: which warp runs next, and which of its
// lanes first; they change wherever a thread waits. What hardware leaves undefined is a fault with
// a message: a barrier that not all threads reach or that they reach at different places, a warp
// operation whose lanes disagree or that have ended, shared memory past its end. Shared memory
// begins as NaN (all bits set), so that what is read before it is written shows in the output.
//
// Reference: CUDA C++ Programming Guide, sections 10.6 (synchronisation), 10.22 (warp shuffles).
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/emulator/fiber.h"

namespace ballast::emulator {

inline constexpr int kWarpLanes = 32;
inline constexpr int kMaxThreadsPerBlock = 1024;
// Of a block, static and dynamic: more would have to be asked for with cudaFuncSetAttribute, which
// is not emulated.
inline constexpr size_t kMaxSharedBytes = size_t{48} << 10;

// Where in the source something was called.
struct Place {
  const char* file = "";
  int line = 0;
};

// What orders a thread with others, for ThreadSanitizer (checkers.h). Two, for while some of the
// threads still leave one barrier, others have reached the next.
struct SyncPoints {
  uint64_t at[2] = {};
  int turn = 0;

  void* Next() { return &at[turn]; }  // of those who arrive
  void* Last() { return &at[turn ^ 1]; }
  void Flip() { turn ^= 1; }
};

// What a lane brings to a warp operation and takes from it. `finish` sees all lanes of the mask,
// once, when the last of them has come.
struct WarpExchange {
  static constexpr size_t kMaxBytes = 64;
  alignas(16) unsigned char in[kMaxBytes] = {};
  alignas(16) unsigned char out[kMaxBytes] = {};
  SyncPoints points;
};
using FinishWarp = void (*)(WarpExchange* const* lanes, uint32_t mask, int argument);

// A copy that cp.async has begun and nobody has waited for.
struct PendingCopy {
  void* to;
  const void* from;
  size_t bytes;
  size_t read;  // the rest become 0
  int group;
};

struct Thread {
  enum class State : uint8_t { kReady, kAtBarrier, kAtWarp, kDone };
  uint3 index{};
  int number = 0;  // in the block: x fastest
  State state = State::kReady;
  Place place;  // where it waits
  uint32_t mask = 0;
  FinishWarp finish = nullptr;
  int argument = 0;
  WarpExchange exchange;
  SyncPoints points;  // of __syncthreads: the first thread's are the block's
  std::vector<PendingCopy> copies;
  int copy_group = 0;

  int lane() const { return number % kWarpLanes; }
  int warp() const { return number / kWarpLanes; }
};

struct BlockShape {
  dim3 grid;
  dim3 block;
  size_t dynamic_shared_bytes = 0;
};

// Runs blocks one after another. One thread at a time; keeps fibers for the next block.
class Block {
 public:
  // Every thread of block `index` runs `body`. Returns what was wrong, or "".
  std::string Run(const BlockShape& shape, uint3 index, uint64_t seed,
                  const std::function<void()>& body);

  // After the last block of a launch.
  void EndLaunch();

  // --- for the running threads; device_side.h gives these CUDA's names ---------------------------
  static Block& Current() { return *current_; }  // of the calling host thread, while it runs
  Thread& thread() { return *thread_; }
  const BlockShape& shape() const { return *shape_; }
  uint3 index() const { return index_; }

  void Barrier(Place place);
  // Waits until all lanes of `mask` have come here with the same operation; returns the lane's own
  // exchange, finished.
  WarpExchange& Exchange(uint32_t mask, Place place, FinishWarp finish, int argument);
  // What the lanes of `mask` did before they came here is before what they do after it.
  void SyncWarp(uint32_t mask, Place place);
  // The static variable declared at `tag`: the same memory for all threads of the block.
  void* Shared(const void* tag, size_t bytes, size_t alignment);
  void* DynamicShared() { return dynamic_shared_.data(); }
  // Begins a copy to shared memory, which is poisoned until the copy is waited for. `bytes` are
  // written, of which the first `read` come from `from` and the others are 0.
  void CopyAsync(void* to, const void* from, size_t bytes, size_t read, Place place);
  void CommitCopies() { ++thread_->copy_group; }
  // Lands all but the last `left` committed groups of this thread.
  void WaitForCopies(int left);
  // Ends the block.
  [[noreturn]] void Fail(Place place, const std::string& what);

 private:
  // A static __shared__ variable. A block of memory of its own each, so that ASan sees its ends.
  struct Static {
    std::vector<float4> memory;
    bool used = false;  // by the block that runs
  };

  void Begin(const BlockShape& shape, uint64_t seed, const std::function<void()>& body);
  void Forget();
  void RunThreads();
  // Whether a lane of it is ready to run on.
  bool RunWarp(int warp);
  void FinishExchange(Thread& thread);
  bool ReleaseBarrier();
  std::string Stuck() const;
  void Wait(Thread::State state, Place place);

  inline static constinit thread_local Block* current_ = nullptr;

  const BlockShape* shape_ = nullptr;
  uint3 index_{};
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<std::unique_ptr<Fiber>> ended_;  // of earlier blocks of the launch, for TSan alone
  std::vector<Thread> threads_;
  Thread* thread_ = nullptr;  // that runs
  std::vector<float4> dynamic_shared_;
  std::map<const void*, Static> static_shared_;  // by their tags
  size_t shared_bytes_ = 0;
  std::string fault_;
};

}  // namespace ballast::emulator
