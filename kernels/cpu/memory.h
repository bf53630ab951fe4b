// Memory for weights and caches.
#pragma once

#include <cstddef>

namespace ballast {

// 64-byte aligned, on huge pages where the kernel has them and the size is worth it; null when
// there is none. FreeMemory wants the same `bytes`.
void* AllocateMemory(size_t bytes);
void FreeMemory(void* data, size_t bytes);

// What this process may still allocate: the machine's, or its control group's when that is less.
size_t AvailableMemory();

// Working memory that grows to the largest size ever asked for and stays there.
class Scratch {
 public:
  Scratch() = default;
  ~Scratch() { FreeMemory(data_, bytes_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Contents are not kept. Aborts when the machine is out of memory.
  void Reserve(size_t bytes);
  char* data() const { return static_cast<char*>(data_); }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace ballast
