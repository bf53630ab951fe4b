// A YAML or JSON file as one tree, for files of numbers that people and other programs write.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.h"

namespace ballast {

// Lists of numbers, which are nearly all of such a file, take eight bytes a number.
struct DocumentNode {
  enum class Kind { kNothing, kScalar, kList, kMap };

  Kind kind = Kind::kNothing;
  std::string text;                 // kScalar: as written; at most kMaxScalarBytes
  std::vector<double> numbers;      // kList: its finite numbers
  std::vector<DocumentNode> items;  // kList: its lists and maps; kMap: its values
  std::vector<std::string> keys;    // kMap [items]: all different
  std::string odd;                  // kList: the first of its scalars that is no finite number

  // A list with nothing but finite numbers, an empty one too; and with nothing but lists and maps.
  bool IsNumbers() const { return kind == Kind::kList && items.empty() && odd.empty(); }
  bool IsItems() const { return kind == Kind::kList && numbers.empty() && odd.empty(); }
  // The value of `key`; null when absent or when this is no map.
  const DocumentNode* Find(std::string_view key) const;
};

inline constexpr size_t kMaxJsonBytes = size_t{64} << 20;
inline constexpr size_t kMaxYamlBytes = size_t{4} << 20;
inline constexpr size_t kMaxScalarBytes = 256;  // of keys and scalars; longer is an error
inline constexpr int kMaxDocumentDepth = 8;
inline constexpr size_t kMaxDocumentNodes = size_t{1} << 20;  // but for the numbers of lists

// "nothing", "a map", "a list" or the scalar itself, for messages.
std::string Describe(const DocumentNode& node);

// Text that begins with { is tried as JSON first. Errors are INVALID_ARGUMENT and begin with
// `name`: neither JSON nor YAML, an alias, a key that stands twice or is no scalar, more than one
// YAML document, and more bytes, depth or nodes than the limits above. Pure.
absl::StatusOr<DocumentNode> ParseDocument(std::string_view text, const std::string& name);

}  // namespace ballast
