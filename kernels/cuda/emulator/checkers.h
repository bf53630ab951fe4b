// What the emulator tells ThreadSanitizer and valgrind's memcheck, so that they see a GPU's threads
// and memory in what is one thread of the host. Without them nothing happens here.
//
// To ThreadSanitizer (BALLAST_EMULATOR_TSAN, which CMake defines in its build) every emulated
// thread is a thread of its own, ordered with the others of its launch by __syncthreads and
// __syncwarp alone: shared memory that is read without a barrier after another thread's write is a
// data race, and so is global memory that two blocks write. Shuffles, votes and mma order nothing,
// as CUDA says (CUDA C++ Programming Guide, sections 10.19 and 10.22).
#pragma once

#include <cstddef>

namespace ballast::emulator {

#ifdef BALLAST_EMULATOR_TSAN
inline constexpr bool kFindsRaces = true;

// What the running thread has done until Publish is before what others do after Observe. `point` is
// memory of 8 bytes that is used for nothing else.
void Publish(void* point);
void Observe(void* point);
// The running thread reads or writes by a library's function, or has somebody else do it.
void WatchRead(const void* from, size_t bytes);
void WatchWrite(void* to, size_t bytes);
// While it lives, what the running thread reads and writes is the emulator's own affair.
class Unwatched {
 public:
  Unwatched();
  ~Unwatched();
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;
};
#else
inline constexpr bool kFindsRaces = false;

inline void Publish(void*) {}
inline void Observe(void*) {}
inline void WatchRead(const void*, size_t) {}
inline void WatchWrite(void*, size_t) {}
struct Unwatched {};
#endif

// Fills memory that nobody has written with ones, which are NaN and a negative number; memcheck
// takes it for what it is.
void Poison(void* memory, size_t bytes);

}  // namespace ballast::emulator
