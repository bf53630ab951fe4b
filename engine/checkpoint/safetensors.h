// The header of a safetensors file: 8 bytes little-endian length, then that many bytes of JSON that
// name every tensor's type, shape and place. Format:
// https://huggingface.co/docs/safetensors (README, "Format").
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // as the file says: "BF16", "F8_E4M3"
  std::vector<int64_t> shape;
  size_t begin = 0;  // byte offsets from the start of the file
  size_t end = 0;
};

// Parses and validates `file`, the bytes of a whole file; `file_name` begins every error message.
// What comes back is safe to read: every entry lies inside the file, none overlaps another, and the
// size is that of the shape in the type (where the type is known). Names are unique. Entries come
// in the order of the file's bytes. Errors are INVALID_ARGUMENT.
absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensors(std::string_view file_name,
                                                               std::string_view file);

// The type that weights may have; none for integers, F8 and the like.
std::optional<DType> UsableType(std::string_view dtype);

// "[8, 64]"
std::string ShapeText(const std::vector<int64_t>& shape);

}  // namespace ballast
