// Whether two machines serve the same checkpoint, told without reading all of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/checkpoint/checkpoint.h"
#include "engine/status.h"

namespace ballast {

// FNV-1a, 64 bits (draft-eastlake-fnv): finds mistakes, not forgeries.
inline constexpr uint64_t kHashSeed = 0xcbf29ce484222325;
uint64_t HashBytes(std::string_view bytes, uint64_t seed);

// 16 hexadecimal digits of: config.json, byte by byte; every tensor's name, type and shape; and
// samples of the tensors' values, spread over each tensor and, where there are very many, over the
// tensors. How tensors are spread over files does not matter. Reads a few megabytes at most.
// Errors name config.json.
absl::StatusOr<std::string> Fingerprint(const Checkpoint& checkpoint);

}  // namespace ballast
