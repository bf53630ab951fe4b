#include "kernels/cuda/emulator/fiber.h"

#include <boost/context/protected_fixedsize_stack.hpp>
#include <utility>

#include "kernels/cuda/emulator/checkers.h"

#ifdef __SANITIZE_ADDRESS__
#define BALLAST_EMULATOR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BALLAST_EMULATOR_ASAN 1
#endif
#endif

#ifdef BALLAST_EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Not instrumented in ThreadSanitizer's build (kernels/CMakeLists.txt): it keeps a list of the
// functions that a thread is in, and those here are entered by one thread and left by another.
#ifdef BALLAST_EMULATOR_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(begin, end) 0u
#define VALGRIND_STACK_DEREGISTER(id)
#endif

namespace ballast::emulator {
namespace {

// Room for a kernel's locals, and for what ASan adds to them; pages that nobody touches cost
// nothing, but ThreadSanitizer clears what it knows of them for every thread.
constexpr size_t kStackBytes = size_t{kFindsRaces ? 64 : 256} << 10;
constexpr size_t kCacheLineBytes = 64;
constexpr size_t kPageBytes = 4096;

#ifdef BALLAST_EMULATOR_ASAN
void BeginSwitch(void** frames, const void* stack, size_t bytes) {
  __sanitizer_start_switch_fiber(frames, stack, bytes);
}
void EndSwitch(void* frames, const void** left_stack, size_t* left_bytes) {
  __sanitizer_finish_switch_fiber(frames, left_stack, left_bytes);
}
// What ASan knew of the frames on a stack must not become part of the next one at its address.
void ForgetFrames(const void* stack, size_t bytes) { ASAN_UNPOISON_MEMORY_REGION(stack, bytes); }
#else
void ForgetFrames(const void*, size_t) {}
void BeginSwitch(void**, const void*, size_t) {}
void EndSwitch(void*, const void**, size_t*) {}
#endif

#ifdef BALLAST_EMULATOR_TSAN
void* NewThread() { return __tsan_create_fiber(0); }
void EndThread(void* thread) { __tsan_destroy_fiber(thread); }
void* RunningThread() { return __tsan_get_current_fiber(); }
// That one host thread runs both orders nothing on a GPU.
void SwitchThread(void* thread) { __tsan_switch_to_fiber(thread, __tsan_switch_to_fiber_no_sync); }
#else
void* NewThread() { return nullptr; }
void EndThread(void*) {}
void* RunningThread() { return nullptr; }
void SwitchThread(void*) {}
#endif

// Tells where the stack is that it hands out, which begins `offset` bytes below its page's end.
class KnownStack {
 public:
  KnownStack(size_t offset, const void** bottom, size_t* bytes)
      : offset_(offset), bottom_(bottom), bytes_(bytes) {}
  boost::context::stack_context allocate() {
    boost::context::stack_context stack = allocator_.allocate();
    stack.sp = static_cast<char*>(stack.sp) - offset_;
    stack.size -= offset_;
    *bottom_ = static_cast<const char*>(stack.sp) - stack.size;
    *bytes_ = stack.size;
    valgrind_id_ = VALGRIND_STACK_REGISTER(*bottom_, stack.sp);
    return stack;
  }
  void deallocate(boost::context::stack_context& stack) {
    VALGRIND_STACK_DEREGISTER(valgrind_id_);
    ForgetFrames(static_cast<char*>(stack.sp) - stack.size, stack.size);
    stack.sp = static_cast<char*>(stack.sp) + offset_;
    stack.size += offset_;
    allocator_.deallocate(stack);
  }

 private:
  boost::context::protected_fixedsize_stack allocator_{kStackBytes};
  size_t offset_;
  const void** bottom_;
  size_t* bytes_;
  [[maybe_unused]] unsigned valgrind_id_ = 0;
};

}  // namespace

Fiber::Fiber(size_t number)
    : inside_thread_(NewThread()),
      inside_(std::allocator_arg,
              KnownStack(number * kCacheLineBytes % kPageBytes, &inside_stack_, &inside_bytes_),
              [this](boost::context::fiber&& outside) {
                outside_ = std::move(outside);
                Run();
                return std::move(outside_);
              }) {}

Fiber::~Fiber() {
  Abandon();
  ending_ = true;
  Resume();
  EndThread(inside_thread_);
}

void Fiber::Start(const std::function<void()>& body) { body_ = &body; }

void Fiber::Resume() {
  BeginSwitch(&outside_frames_, inside_stack_, inside_bytes_);
  outside_thread_ = RunningThread();
  SwitchThread(inside_thread_);
  inside_ = std::move(inside_).resume();
  EndSwitch(outside_frames_, nullptr, nullptr);
}

void Fiber::Leave() {
  BeginSwitch(&inside_frames_, outside_stack_, outside_bytes_);
  SwitchThread(outside_thread_);
  outside_ = std::move(outside_).resume();
  EndSwitch(inside_frames_, &outside_stack_, &outside_bytes_);
}

void Fiber::Wait() {
  Leave();
  if (abandoned_) throw Unwind();
}

void Fiber::Abandon() {
  if (done()) return;
  abandoned_ = true;
  Resume();
  abandoned_ = false;
}

void Fiber::Run() {
  EndSwitch(nullptr, &outside_stack_, &outside_bytes_);
  while (!ending_) {
    try {
      if (!abandoned_) (*body_)();
    } catch (const Unwind&) {
    }
    body_ = nullptr;
    Leave();
  }
  BeginSwitch(nullptr, outside_stack_, outside_bytes_);  // this stack is not coming back
  SwitchThread(outside_thread_);
}

}  // namespace ballast::emulator
