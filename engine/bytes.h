// Plain structs as bytes, numbers as they lie in memory. A struct says once what travels of it:
//
//   template <typename Bytes>
//   void Fields(Bytes& b, Point& p) { b(p.x, p.y); }
//
// in its own namespace, and both writing and reading follow that list. Vectors, optionals and pairs
// of such structs and of numbers travel too.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/status.h"

namespace ballast {

template <typename T>
concept ByteNumber = std::is_arithmetic_v<T> || std::is_enum_v<T>;

// Appends to a string.
class ByteWriter {
 public:
  explicit ByteWriter(std::string& out) : out_(out) {}

  template <typename... T>
  void operator()(T&... values) {
    (Put(values), ...);
  }

 private:
  void PutBytes(const void* data, size_t bytes) {
    if (bytes > 0) out_.append(static_cast<const char*>(data), bytes);
  }
  template <ByteNumber T>
  void Put(T& value) {
    PutBytes(&value, sizeof(value));
  }
  template <typename T>
  requires(!ByteNumber<T>) void Put(T& value) { Fields(*this, value); }
  template <typename A, typename B>
  void Put(std::pair<A, B>& value) {
    Put(value.first);
    Put(value.second);
  }
  template <typename T>
  void Put(std::optional<T>& value) {
    bool present = value.has_value();
    Put(present);
    if (present) Put(*value);
  }
  template <typename T>
  void Put(std::vector<T>& values) {
    uint64_t count = values.size();
    Put(count);
    if constexpr (ByteNumber<T>) {
      PutBytes(values.data(), count * sizeof(T));
    } else {
      for (T& value : values) Put(value);
    }
  }

  std::string& out_;
};

// Writing and reading share Fields, which takes references to change; writing changes nothing.
template <typename T>
void AppendBytes(const T& value, std::string& out) {
  ByteWriter writer(out);
  writer(const_cast<T&>(value));
}

// Bytes that a value takes at least, that is with empty arrays: so that a count can be checked
// before memory is taken for it.
template <typename T>
size_t LeastBytes() {
  static const size_t bytes = [] {
    std::string out;
    AppendBytes(T{}, out);
    return out.size();
  }();
  return bytes;
}

// Reads what ByteWriter wrote; whatever the bytes are, it stays inside them and takes no more
// memory than they stand for.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : left_(bytes) {}

  template <typename... T>
  void operator()(T&... values) {
    (Get(values), ...);
  }

  // INVALID_ARGUMENT unless all bytes were there and none is left; `what` begins the message.
  absl::Status Finish(const char* what) const {
    if (!ok_) return absl::InvalidArgumentError(absl::StrCat(what, ": the bytes end too early"));
    if (left_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": found ", left_.size(), " bytes behind its end, expected none"));
  }

 private:
  void Fail() {
    ok_ = false;
    left_ = {};
  }
  void GetBytes(void* to, size_t bytes) {
    if (bytes > left_.size()) return Fail();
    if (bytes > 0) std::memcpy(to, left_.data(), bytes);
    left_.remove_prefix(bytes);
  }
  template <ByteNumber T>
  void Get(T& value) {
    GetBytes(&value, sizeof(value));
  }
  // Any byte but 0 and 1 would be undefined as a bool.
  void Get(bool& value) {
    uint8_t byte = 0;
    Get(byte);
    if (byte > 1) Fail();
    value = byte == 1;
  }
  template <typename T>
  requires(!ByteNumber<T>) void Get(T& value) { Fields(*this, value); }
  template <typename A, typename B>
  void Get(std::pair<A, B>& value) {
    Get(value.first);
    Get(value.second);
  }
  template <typename T>
  void Get(std::optional<T>& value) {
    bool present = false;
    Get(present);
    value.reset();
    if (present) Get(value.emplace());
  }
  template <typename T>
  void Get(std::vector<T>& values) {
    uint64_t count = 0;
    Get(count);
    if (count > left_.size() / LeastBytes<T>()) {
      Fail();
      count = 0;
    }
    values.resize(count);
    if constexpr (ByteNumber<T>) {
      GetBytes(values.data(), count * sizeof(T));
    } else {
      for (T& value : values) Get(value);
    }
  }

  std::string_view left_;
  bool ok_ = true;
};

}  // namespace ballast
