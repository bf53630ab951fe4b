// Typed access to one parsed JSON file, with errors that name the file and the field:
// "tokenizer.json: field model.merges[3] is a number, expected a string".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <simdjson.h>

#include "engine/status.h"

namespace ballast {

// A value and the place where it was found. It points into its JsonFile, which must outlive it.
class JsonField {
 public:
  JsonField(simdjson::dom::element value, std::string file, std::string path)
      : value_(value), file_(std::move(file)), path_(std::move(path)) {}

  // The member `key`; absent and null read as nullopt, here and wherever a field is optional.
  absl::StatusOr<std::optional<JsonField>> Find(std::string_view key) const;
  // The same where the file must have it.
  absl::StatusOr<JsonField> Get(std::string_view key) const;

  absl::StatusOr<std::string_view> AsString() const;
  absl::StatusOr<bool> AsBool() const;
  absl::StatusOr<int64_t> AsInt(int64_t min, int64_t max) const;
  absl::StatusOr<std::vector<JsonField>> AsArray() const;

  // Members of the most frequent kinds, read in one step.
  absl::StatusOr<std::string_view> GetString(std::string_view key) const;
  absl::StatusOr<bool> GetBool(std::string_view key, bool when_absent) const;

  // INVALID_ARGUMENT "FILE: field PATH WHAT", where WHAT says what was found and expected.
  absl::Status Error(std::string_view what) const;
  // The same for a part of this field: `part` is "[3]" or ".key".
  absl::Status ErrorAt(std::string_view part, std::string_view what) const;

  const simdjson::dom::element& value() const { return value_; }
  bool is_string() const { return value_.is_string(); }
  bool is_object() const { return value_.is_object(); }

 private:
  absl::Status WrongKind(std::string_view expected) const;

  simdjson::dom::element value_;
  std::string file_;
  std::string path_;
};

// Owns a parsed file.
class JsonFile {
 public:
  // INVALID_ARGUMENT when `text` is not one JSON object; `file` is the name that errors carry.
  absl::StatusOr<JsonField> Parse(std::string_view text, const std::string& file);

 private:
  simdjson::dom::parser parser_;
};

// What was found, for error messages: "a string", "null".
std::string_view JsonKind(const simdjson::dom::element& value);

// `text` cut to a length that fits an error message, quoted, control characters escaped.
std::string QuoteForError(std::string_view text);

}  // namespace ballast
