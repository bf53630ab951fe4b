// A whole file, mapped read-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/status.h"

namespace ballast {

// Far above any config.json, generation_config.json and the like.
inline constexpr size_t kMaxConfigBytes = size_t{16} << 20;

// Reads a regular file of at most `limit` bytes. NOT_FOUND when there is none; other errors name
// the path and the reason.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t limit);

// Movable owner of a mapping. Any thread may read. A file that shrinks while it is mapped raises
// SIGBUS on access; nothing here can prevent that.
class MappedFile {
 public:
  // NOT_FOUND when there is no such file; INVALID_ARGUMENT when it is no regular file.
  static absl::StatusOr<MappedFile> Open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::string_view bytes() const { return {static_cast<const char*>(data_), size_}; }
  // The pages that hold [data, data + size) may be dropped; reading them again reads the file.
  void Discard(const void* data, size_t size) const;

 private:
  MappedFile(void* data, size_t size) : data_(data), size_(size) {}
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace ballast
