#include "kernels/cpu/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>

#include "kernels/device.h"

namespace ballast {
namespace {

constexpr size_t kSmallPage = 4096;
constexpr size_t kHugePage = size_t{2} << 20;

size_t RoundUpTo(size_t bytes, size_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}

// Whole huge pages only pay for themselves in big blocks, which then start on one.
void* MapHuge(size_t bytes) {
  const size_t length = RoundUpTo(bytes, kHugePage);
  const size_t mapped = length + kHugePage;
  void* raw = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  char* const begin = static_cast<char*>(raw);
  char* const data =
      begin + (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  if (data > begin) munmap(begin, static_cast<size_t>(data - begin));
  char* const end = begin + mapped;
  if (data + length < end) munmap(data + length, static_cast<size_t>(end - (data + length)));
  madvise(data, length, MADV_HUGEPAGE);  // advice; small pages work too
  // Touched now, so that memory that is not there shows at load and not under a client's tokens.
  for (size_t at = 0; at < length; at += kSmallPage) data[at] = 0;
  return data;
}

// The first number of a file like /sys/fs/cgroup/memory.max; `missing` when there is none.
size_t ReadNumber(const char* path, size_t missing) {
  std::ifstream file(path);
  size_t value = 0;
  return file >> value ? value : missing;
}

}  // namespace

void* AllocateMemory(size_t bytes) {
  if (bytes > SIZE_MAX - 2 * kHugePage) return nullptr;
  if (bytes >= kHugePage) return MapHuge(bytes);
  return std::aligned_alloc(kMemoryAlignment, AlignUp(bytes == 0 ? 1 : bytes));
}

void FreeMemory(void* data, size_t bytes) {
  if (data == nullptr) return;
  if (bytes >= kHugePage) {
    munmap(data, RoundUpTo(bytes, kHugePage));
  } else {
    std::free(data);
  }
}

size_t AvailableMemory() {
  size_t available = std::numeric_limits<size_t>::max();
  std::ifstream meminfo("/proc/meminfo");
  std::string name;
  std::string rest;
  size_t kib = 0;
  while (meminfo >> name >> kib && std::getline(meminfo, rest)) {
    if (name == "MemAvailable:") available = kib * 1024;
  }
  const size_t limit = ReadNumber("/sys/fs/cgroup/memory.max", available);
  const size_t current = ReadNumber("/sys/fs/cgroup/memory.current", 0);
  return std::min(available, limit > current ? limit - current : 0);
}

void Scratch::Reserve(size_t bytes) {
  if (bytes <= bytes_) return;
  FreeMemory(data_, bytes_);
  data_ = AllocateMemory(bytes);
  bytes_ = bytes;
  if (data_ == nullptr) {
    std::fprintf(stderr, "out of memory: %zu bytes of working memory\n", bytes);
    std::abort();
  }
}

}  // namespace ballast
