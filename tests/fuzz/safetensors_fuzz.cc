// The bytes of a safetensors file: whatever is accepted must be safe to read.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "engine/checkpoint/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  const auto entries = ballast::ParseSafetensors("fuzz", file);
  if (!entries.ok()) return 0;
  size_t previous_end = 8;
  for (const ballast::SafetensorsEntry& entry : *entries) {
    if (entry.begin > entry.end || entry.end > size) std::abort();
    if (entry.begin != entry.end && entry.begin < previous_end) std::abort();
    if (entry.begin != entry.end) previous_end = entry.end;
    for (int64_t dim : entry.shape) {
      if (dim < 0) std::abort();
    }
  }
  return 0;
}
