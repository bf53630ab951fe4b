#include "engine/tokenizer/json_field.h"

#include "absl/strings/escaping.h"

#include "engine/concat.h"

namespace ballast {

std::string_view JsonKind(const simdjson::dom::element& value) {
  switch (value.type()) {
    case simdjson::dom::element_type::ARRAY:
      return "an array";
    case simdjson::dom::element_type::OBJECT:
      return "an object";
    case simdjson::dom::element_type::STRING:
      return "a string";
    case simdjson::dom::element_type::BOOL:
      return "a boolean";
    case simdjson::dom::element_type::NULL_VALUE:
      return "null";
    default:
      return "a number";
  }
}

std::string QuoteForError(std::string_view text) {
  constexpr size_t kShown = 80;
  if (text.size() <= kShown) return Concat("\"", absl::Utf8SafeCHexEscape(std::string(text)), "\"");
  size_t end = kShown;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return Concat("\"", absl::Utf8SafeCHexEscape(std::string(text.substr(0, end))), "...\"");
}

absl::Status JsonField::ErrorAt(std::string_view part, std::string_view what) const {
  std::string place = Concat(path_, part);
  if (place.empty()) return absl::InvalidArgumentError(Concat(file_, ": the file ", what));
  if (place.front() == '.') place.erase(0, 1);
  return absl::InvalidArgumentError(Concat(file_, ": field ", place, " ", what));
}

absl::Status JsonField::Error(std::string_view what) const { return ErrorAt("", what); }

absl::Status JsonField::WrongKind(std::string_view expected) const {
  return Error(Concat("is ", JsonKind(value_), ", expected ", expected));
}

absl::StatusOr<std::optional<JsonField>> JsonField::Find(std::string_view key) const {
  simdjson::dom::object object;
  if (value_.get(object) != simdjson::SUCCESS) return WrongKind("an object");
  simdjson::dom::element member;
  if (object.at_key(key).get(member) != simdjson::SUCCESS || member.is_null()) {
    return std::optional<JsonField>();
  }
  std::string path = path_.empty() ? std::string(key) : Concat(path_, ".", key);
  return std::optional<JsonField>(JsonField(member, file_, std::move(path)));
}

absl::StatusOr<JsonField> JsonField::Get(std::string_view key) const {
  ASSIGN_OR_RETURN(std::optional<JsonField> member, Find(key));
  if (!member) return ErrorAt(Concat(".", key), "is missing");
  return *std::move(member);
}

absl::StatusOr<std::string_view> JsonField::AsString() const {
  std::string_view text;
  if (value_.get(text) != simdjson::SUCCESS) return WrongKind("a string");
  return text;
}

absl::StatusOr<bool> JsonField::AsBool() const {
  bool flag;
  if (value_.get(flag) != simdjson::SUCCESS) return WrongKind("true or false");
  return flag;
}

absl::StatusOr<int64_t> JsonField::AsInt(int64_t min, int64_t max) const {
  const std::string expected = Concat("a whole number from ", min, " to ", max);
  int64_t number;
  if (value_.get(number) != simdjson::SUCCESS) {
    const bool is_number = value_.is_double() || value_.is_uint64();
    if (!is_number) return WrongKind(expected);
    return Error(Concat("is not a whole number in range, expected ", expected));
  }
  if (number < min || number > max) {
    return Error(Concat("is ", number, ", expected ", expected));
  }
  return number;
}

absl::StatusOr<std::vector<JsonField>> JsonField::AsArray() const {
  simdjson::dom::array array;
  if (value_.get(array) != simdjson::SUCCESS) return WrongKind("an array");
  std::vector<JsonField> fields;
  for (simdjson::dom::element element : array) {
    fields.emplace_back(element, file_, Concat(path_, "[", fields.size(), "]"));
  }
  return fields;
}

absl::StatusOr<std::string_view> JsonField::GetString(std::string_view key) const {
  ASSIGN_OR_RETURN(JsonField member, Get(key));
  return member.AsString();
}

absl::StatusOr<bool> JsonField::GetBool(std::string_view key, bool when_absent) const {
  ASSIGN_OR_RETURN(std::optional<JsonField> member, Find(key));
  if (!member) return when_absent;
  return member->AsBool();
}

absl::StatusOr<JsonField> JsonFile::Parse(std::string_view text, const std::string& file) {
  // Deep enough for any real file; simdjson walks without recursion, and our readers limit theirs.
  constexpr size_t kMaxDepth = 128;
  simdjson::dom::element root;
  simdjson::error_code error = parser_.allocate(text.size(), kMaxDepth);
  if (error == simdjson::SUCCESS) error = parser_.parse(text.data(), text.size()).get(root);
  if (error != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(
        Concat(file, ": not valid JSON: ", simdjson::error_message(error)));
  }
  JsonField field(root, file, "");
  if (!root.is_object()) {
    return field.Error(Concat("is ", JsonKind(root), ", expected an object"));
  }
  return field;
}

}  // namespace ballast
