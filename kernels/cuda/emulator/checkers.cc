#include "kernels/cuda/emulator/checkers.h"

#include <cstring>

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define VALGRIND_MAKE_MEM_UNDEFINED(memory, bytes)
#endif

#ifdef BALLAST_EMULATOR_TSAN
#include <sanitizer/tsan_interface.h>

// ThreadSanitizer's, in no header of it.
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
// NOLINTBEGIN(bugprone-reserved-identifier): their names
void __tsan_read_range(void* from, unsigned long bytes);
void __tsan_write_range(void* to, unsigned long bytes);
// NOLINTEND(bugprone-reserved-identifier)
}
#endif

namespace ballast::emulator {

#ifdef BALLAST_EMULATOR_TSAN
void Publish(void* point) { __tsan_release(point); }
void Observe(void* point) { __tsan_acquire(point); }
void WatchRead(const void* from, size_t bytes) {
  __tsan_read_range(const_cast<void*>(from), bytes);
}
void WatchWrite(void* to, size_t bytes) { __tsan_write_range(to, bytes); }

Unwatched::Unwatched() {
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}
Unwatched::~Unwatched() {
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}
#endif

void Poison(void* memory, size_t bytes) {
  std::memset(memory, 0xff, bytes);
  VALGRIND_MAKE_MEM_UNDEFINED(memory, bytes);
}

}  // namespace ballast::emulator
