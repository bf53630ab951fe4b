// bench/cuda/gpu_time.h for emulated GPUs.
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "bench/cuda/gpu_time.h"

namespace ballast::bench {

double SecondsOf(const Device& device, Stream stream, int times, const std::function<void()>& run) {
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < times; ++i) run();
  if (const char* const failure = device.synchronize(stream); failure != nullptr) {
    std::fprintf(stderr, "gpu_bench: %s\n", failure);
    std::exit(1);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace ballast::bench
