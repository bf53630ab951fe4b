// Typed reading of a JSON object whose author is not trusted: every value has a range, and the
// first wrong one is remembered under its name, so that readers need no error handling of their
// own.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.h"

namespace ballast {

struct IntRange {
  int min = 0;
  int max = 0;
};

struct NumberRange {
  double min = 0;
  double max = 0;
};

// After the first error the readers return their fallback (or the range's lowest value) and the
// error stays; call `status()` before the values are used. An absent key and one that is null mean
// the same. Of a key that stands twice the last counts, as in Python. Copies share errors.
class ConfigReader {
 public:
  // `file` begins every message: "config.json". INVALID_ARGUMENT unless `json` is one object.
  static absl::StatusOr<ConfigReader> Parse(std::string_view file, std::string_view json);

  bool Has(std::string_view key) const;
  bool IsObject(std::string_view key) const;

  int Int(std::string_view key, IntRange range);
  int IntOr(std::string_view key, int fallback, IntRange range);
  // One fact under several names: the ones present must agree, and one must be there.
  int IntOf(std::initializer_list<std::string_view> keys, IntRange range);
  double NumberOr(std::string_view key, double fallback, NumberRange range);
  double Number(std::string_view key, NumberRange range);
  bool BoolOr(std::string_view key, bool fallback);
  std::string StringOr(std::string_view key, std::string_view fallback);
  // A list, or a single integer standing for a list of one; empty when absent. At most `max_count`.
  std::vector<int> Ints(std::string_view key, IntRange range, size_t max_count);
  std::vector<std::string> Strings(std::string_view key, size_t max_count);
  // The object under `key`, empty when absent.
  ConfigReader Child(std::string_view key);

  // Records "FILE: KEY is VALUE, expected EXPECTED" for a value that is there.
  void Wrong(std::string_view key, std::string_view expected);
  // Records "FILE: MESSAGE".
  void Fail(std::string_view message);
  // Something that the forward pass does not do; no error by itself.
  void Unsupported(std::string_view message);

  const absl::Status& status() const;
  const std::vector<std::string>& unsupported() const;

 private:
  struct Document;
  struct Fields;
  ConfigReader() = default;

  std::shared_ptr<Document> document_;
  std::shared_ptr<Fields> fields_;
  std::string prefix_;  // "rope_parameters."
};

}  // namespace ballast
