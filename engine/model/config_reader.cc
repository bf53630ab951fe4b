#include "engine/model/config_reader.h"

#include <map>
#include <optional>

#include "engine/concat.h"
#include "simdjson.h"

namespace ballast {

using simdjson::dom::element;

// What a reader and its children share.
struct ConfigReader::Document {
  std::string file;
  simdjson::dom::parser parser;
  absl::Status status;
  std::vector<std::string> unsupported;
};

struct ConfigReader::Fields {
  std::map<std::string_view, element> values;
};

namespace {

std::string Shown(const element& value) {
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  const std::string text = simdjson::minify(value);
  constexpr size_t kLongest = 60;
  return text.size() <= kLongest ? text : Concat(text.substr(0, kLongest), "...");
}

std::map<std::string_view, element> FieldsOf(simdjson::dom::object object) {
  std::map<std::string_view, element> fields;
  for (simdjson::dom::key_value_pair field : object) fields[field.key] = field.value;
  return fields;
}

const element* FindIn(const std::map<std::string_view, element>& values, std::string_view key) {
  const auto found = values.find(key);
  return found == values.end() || found->second.is_null() ? nullptr : &found->second;
}

std::optional<int> IntIn(const element& value, IntRange range) {
  int64_t number = 0;
  if (value.get_int64().get(number) || number < range.min || number > range.max) {
    return std::nullopt;
  }
  return static_cast<int>(number);
}

std::string Expected(IntRange range) {
  return Concat("an integer from ", range.min, " to ", range.max);
}

}  // namespace

absl::StatusOr<ConfigReader> ConfigReader::Parse(std::string_view file, std::string_view json) {
  ConfigReader reader;
  reader.document_ = std::make_shared<Document>();
  reader.document_->file = std::string(file);
  const simdjson::padded_string padded(json);  // the parser reads past the end of its input
  element root;
  if (simdjson::error_code error = reader.document_->parser.parse(padded).get(root)) {
    return absl::InvalidArgumentError(Concat(file, ": not JSON: ", simdjson::error_message(error)));
  }
  simdjson::dom::object object;
  if (root.get_object().get(object)) {
    return absl::InvalidArgumentError(
        Concat(file, ": holds ", Shown(root), ", expected an object"));
  }
  reader.fields_ = std::make_shared<Fields>(Fields{FieldsOf(object)});
  return reader;
}

bool ConfigReader::Has(std::string_view key) const {
  return FindIn(fields_->values, key) != nullptr;
}

bool ConfigReader::IsObject(std::string_view key) const {
  const element* value = FindIn(fields_->values, key);
  return value != nullptr && value->is_object();
}

int ConfigReader::IntOr(std::string_view key, int fallback, IntRange range) {
  const element* value = FindIn(fields_->values, key);
  if (value == nullptr) return fallback;
  const std::optional<int> number = IntIn(*value, range);
  if (!number) Wrong(key, Expected(range));
  return number.value_or(fallback);
}

int ConfigReader::Int(std::string_view key, IntRange range) {
  if (!Has(key)) Fail(Concat(prefix_, key, " is missing, expected ", Expected(range)));
  return IntOr(key, range.min, range);
}

int ConfigReader::IntOf(std::initializer_list<std::string_view> keys, IntRange range) {
  std::string_view first;
  int number = range.min;
  for (std::string_view key : keys) {
    if (!Has(key)) continue;
    const int value = Int(key, range);
    if (!first.empty() && value != number) {
      Wrong(key, Concat(number, " as in ", first));
    }
    first = key;
    number = value;
  }
  if (first.empty()) return Int(*keys.begin(), range);
  return number;
}

double ConfigReader::NumberOr(std::string_view key, double fallback, NumberRange range) {
  const element* value = FindIn(fields_->values, key);
  if (value == nullptr) return fallback;
  double number = 0;
  // Written so that a NaN would fail too.
  if (value->get_double().get(number) || !(number >= range.min && number <= range.max)) {
    Wrong(key, Concat("a number from ", range.min, " to ", range.max));
    return fallback;
  }
  return number;
}

double ConfigReader::Number(std::string_view key, NumberRange range) {
  if (!Has(key)) Fail(Concat(prefix_, key, " is missing, expected a number"));
  return NumberOr(key, range.min, range);
}

bool ConfigReader::BoolOr(std::string_view key, bool fallback) {
  const element* value = FindIn(fields_->values, key);
  bool flag = fallback;
  if (value != nullptr && value->get_bool().get(flag)) {
    Wrong(key, "true or false");
    return fallback;
  }
  return flag;
}

std::string ConfigReader::StringOr(std::string_view key, std::string_view fallback) {
  const element* value = FindIn(fields_->values, key);
  std::string_view text = fallback;
  if (value != nullptr && value->get_string().get(text)) {
    Wrong(key, "a string");
    return std::string(fallback);
  }
  return std::string(text);
}

std::vector<int> ConfigReader::Ints(std::string_view key, IntRange range, size_t max_count) {
  const element* value = FindIn(fields_->values, key);
  if (value == nullptr) return {};
  simdjson::dom::array list;
  if (value->get_array().get(list)) return {IntOr(key, range.min, range)};
  std::vector<int> numbers;
  for (element item : list) {
    const std::optional<int> number = IntIn(item, range);
    if (!number) {
      Fail(Concat(prefix_, key, " holds ", Shown(item), ", expected ", Expected(range)));
      return {};
    }
    if (numbers.size() == max_count) {
      Wrong(key, Concat("at most ", max_count, " of them"));
      return {};
    }
    numbers.push_back(*number);
  }
  return numbers;
}

std::vector<std::string> ConfigReader::Strings(std::string_view key, size_t max_count) {
  const element* value = FindIn(fields_->values, key);
  if (value == nullptr) return {};
  simdjson::dom::array list;
  if (value->get_array().get(list)) {
    Wrong(key, "a list of strings");
    return {};
  }
  std::vector<std::string> texts;
  for (element item : list) {
    std::string_view text;
    if (item.get_string().get(text) || texts.size() == max_count) {
      Wrong(key, Concat("a list of at most ", max_count, " strings"));
      return {};
    }
    texts.emplace_back(text);
  }
  return texts;
}

ConfigReader ConfigReader::Child(std::string_view key) {
  ConfigReader child;
  child.document_ = document_;
  child.prefix_ = Concat(prefix_, key, ".");
  child.fields_ = std::make_shared<Fields>();
  const element* value = FindIn(fields_->values, key);
  simdjson::dom::object object;
  if (value == nullptr) return child;
  if (value->get_object().get(object)) {
    Wrong(key, "an object");
  } else {
    child.fields_->values = FieldsOf(object);
  }
  return child;
}

void ConfigReader::Wrong(std::string_view key, std::string_view expected) {
  const element* value = FindIn(fields_->values, key);
  Fail(Concat(prefix_, key, " is ", value == nullptr ? "missing" : Shown(*value), ", expected ",
              expected));
}

void ConfigReader::Fail(std::string_view message) {
  if (!document_->status.ok()) return;
  document_->status = absl::InvalidArgumentError(Concat(document_->file, ": ", message));
}

void ConfigReader::Unsupported(std::string_view message) {
  document_->unsupported.emplace_back(message);
}

const absl::Status& ConfigReader::status() const { return document_->status; }

const std::vector<std::string>& ConfigReader::unsupported() const { return document_->unsupported; }

}  // namespace ballast
