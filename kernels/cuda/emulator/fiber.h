// A stack of its own that runs a body until the body waits.
#pragma once

#include <boost/context/fiber.hpp>
#include <cstddef>
#include <functional>

namespace ballast::emulator {

// Runs one body after another, on one stack that is kept. Owned, started and resumed by one thread;
// that thread's other fibers may be resumed between. ASan is told of every change of stacks,
// valgrind of the stacks, and to ThreadSanitizer a fiber is a thread (checkers.h).
class Fiber {
 public:
  // Stacks begin in different cache lines of a page by their `number`: those of a block would
  // otherwise displace one another from the cache at every change.
  explicit Fiber(size_t number = 0);
  // A body that has not ended is unwound first.
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Sets what the next Resume begins; the body before has ended. `body` outlives its run.
  void Start(const std::function<void()>& body);
  // Runs the body until it calls Wait or ends. Outside of all fibers only.
  void Resume();
  // Back to whoever called Resume. Inside of this fiber's body only.
  void Wait();
  // Lets a body that waits end early: its stack is unwound.
  void Abandon();

  bool done() const { return body_ == nullptr; }

 private:
  struct Unwind {};

  void Run();  // what the fiber's stack runs
  void Leave();

  const std::function<void()>* body_ = nullptr;
  bool abandoned_ = false;
  bool ending_ = false;
  // For ASan: the two stacks, and what it keeps of each while the other runs. Before `inside_`,
  // which sets its stack.
  const void* inside_stack_ = nullptr;
  size_t inside_bytes_ = 0;
  const void* outside_stack_ = nullptr;
  size_t outside_bytes_ = 0;
  void* inside_frames_ = nullptr;
  void* outside_frames_ = nullptr;
  // ThreadSanitizer's threads.
  void* inside_thread_;
  void* outside_thread_ = nullptr;
  boost::context::fiber inside_;
  boost::context::fiber outside_;
};

}  // namespace ballast::emulator
