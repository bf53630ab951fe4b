#include "engine/checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "absl/strings/str_join.h"
#include "engine/concat.h"
#include "simdjson.h"

namespace ballast {
namespace {

// The reference implementation's own limit on the header.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxRank = 8;

// Bits of an element; 0 for a type we have never heard of.
int BitsOf(std::string_view dtype) {
  struct Row {
    std::string_view name;
    int bits;
  };
  static constexpr Row kTypes[] = {
      {"F32", 32},    {"BF16", 16},   {"F16", 16}, {"F64", 64},    {"F8_E4M3", 8},
      {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6},
      {"BOOL", 8},    {"U8", 8},      {"I8", 8},   {"U16", 16},    {"I16", 16},
      {"U32", 32},    {"I32", 32},    {"U64", 64}, {"I64", 64},    {"C64", 64},
  };
  for (const Row& row : kTypes) {
    if (row.name == dtype) return row.bits;
  }
  return 0;
}

absl::Status Bad(std::string_view file_name, std::string_view message) {
  return absl::InvalidArgumentError(Concat(file_name, ": ", message));
}

// Names come from the file and end up in messages.
std::string Shown(std::string_view name) {
  constexpr size_t kLongest = 200;
  return name.size() <= kLongest ? std::string(name) : Concat(name.substr(0, kLongest), "...");
}

absl::StatusOr<std::string_view> HeaderText(std::string_view file_name, std::string_view file) {
  if (file.size() < 8) {
    return Bad(file_name, Concat("has ", file.size(),
                                 " bytes, expected at least the 8 of the header's length"));
  }
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(file[i]);
  if (length > kMaxHeaderBytes) {
    return Bad(file_name,
               Concat("header length is ", length, ", expected at most ", kMaxHeaderBytes));
  }
  if (length > file.size() - 8) {
    return Bad(file_name, Concat("header length is ", length, ", but only ", file.size() - 8,
                                 " bytes follow (truncated file?)"));
  }
  return file.substr(8, length);
}

absl::Status ReadShape(simdjson::dom::element value, std::vector<int64_t>& shape) {
  simdjson::dom::array dims;
  if (value.get_array().get(dims)) {
    return absl::InvalidArgumentError("shape is not an array");
  }
  for (simdjson::dom::element dim : dims) {
    int64_t size = 0;
    if (dim.get_int64().get(size) || size < 0) {
      return absl::InvalidArgumentError(Concat("shape holds ", simdjson::minify(dim).substr(0, 40),
                                               ", expected integers from 0"));
    }
    shape.push_back(size);
    if (shape.size() > kMaxRank) {
      return absl::InvalidArgumentError(Concat("shape has more than ", kMaxRank, " sizes"));
    }
  }
  return absl::OkStatus();
}

// Begin and end relative to the data section of `data_size` bytes.
absl::Status ReadOffsets(simdjson::dom::element value, size_t data_size, SafetensorsEntry& entry) {
  simdjson::dom::array offsets;
  uint64_t range[2] = {};
  size_t count = 0;
  if (value.get_array().get(offsets)) {
    return absl::InvalidArgumentError("data_offsets is not an array");
  }
  for (simdjson::dom::element offset : offsets) {
    if (count == 2 || offset.get_uint64().get(range[count])) {
      return absl::InvalidArgumentError("data_offsets is not [begin, end] with integers from 0");
    }
    ++count;
  }
  if (count != 2 || range[0] > range[1]) {
    return absl::InvalidArgumentError("data_offsets is not [begin, end] with begin <= end");
  }
  if (range[1] > data_size) {
    return absl::InvalidArgumentError(Concat("data_offsets end at ", range[1],
                                             ", but the file holds ", data_size,
                                             " bytes of data (truncated file?)"));
  }
  entry.begin = range[0];
  entry.end = range[1];
  return absl::OkStatus();
}

// The shape in the type must fill the range exactly.
absl::Status CheckSize(const SafetensorsEntry& entry) {
  const int bits = BitsOf(entry.dtype);
  uint64_t total = bits;
  bool overflow = false;
  // A zero anywhere makes the product zero, whatever the other sizes would overflow to.
  if (std::find(entry.shape.begin(), entry.shape.end(), 0) != entry.shape.end()) total = 0;
  for (int64_t dim : entry.shape) {
    overflow |= __builtin_mul_overflow(total, static_cast<uint64_t>(dim), &total);
  }
  if (bits == 0) return absl::OkStatus();
  if (overflow) {
    return absl::InvalidArgumentError(Concat("shape ", ShapeText(entry.shape), " overflows"));
  }
  const uint64_t held = entry.end - entry.begin;
  if (total % 8 != 0 || total / 8 != held) {
    return absl::InvalidArgumentError(Concat("shape ", ShapeText(entry.shape), " in ", entry.dtype,
                                             " takes ", (total + 7) / 8,
                                             " bytes, but data_offsets hold ", held));
  }
  return absl::OkStatus();
}

absl::Status ReadEntry(simdjson::dom::element value, size_t data_size, SafetensorsEntry& entry) {
  simdjson::dom::object fields;
  if (value.get_object().get(fields)) return absl::InvalidArgumentError("is not an object");
  simdjson::dom::element dtype, shape, offsets;
  std::string_view type;
  if (fields.at_key("dtype").get(dtype) || dtype.get_string().get(type)) {
    return absl::InvalidArgumentError("has no dtype");
  }
  entry.dtype = Shown(type);
  if (fields.at_key("shape").get(shape)) return absl::InvalidArgumentError("has no shape");
  RETURN_IF_ERROR(ReadShape(shape, entry.shape));
  if (fields.at_key("data_offsets").get(offsets)) {
    return absl::InvalidArgumentError("has no data_offsets");
  }
  RETURN_IF_ERROR(ReadOffsets(offsets, data_size, entry));
  return CheckSize(entry);
}

absl::Status CheckOverlaps(std::string_view file_name,
                           const std::vector<SafetensorsEntry>& entries) {
  const SafetensorsEntry* previous = nullptr;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin == entry.end) continue;
    if (previous != nullptr && entry.begin < previous->end) {
      return Bad(file_name, Concat("the bytes of ", Shown(entry.name), " overlap those of ",
                                   Shown(previous->name)));
    }
    previous = &entry;
  }
  return absl::OkStatus();
}

}  // namespace

std::optional<DType> UsableType(std::string_view dtype) {
  for (DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
    if (dtype == NameOf(type)) return type;
  }
  return std::nullopt;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return Concat("[", absl::StrJoin(shape, ", "), "]");
}

absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensors(std::string_view file_name,
                                                               std::string_view file) {
  ASSIGN_OR_RETURN(const std::string_view text, HeaderText(file_name, file));
  const size_t data_begin = 8 + text.size();
  const size_t data_size = file.size() - data_begin;
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  const simdjson::padded_string padded(text);  // the parser reads past the end of its input
  if (simdjson::error_code error = parser.parse(padded).get(root)) {
    return Bad(file_name, Concat("header is not JSON: ", simdjson::error_message(error)));
  }
  simdjson::dom::object tensors;
  if (root.get_object().get(tensors)) return Bad(file_name, "header is not a JSON object");

  std::vector<SafetensorsEntry> entries;
  std::set<std::string_view> names;
  for (simdjson::dom::key_value_pair field : tensors) {
    if (!names.insert(field.key).second) {
      return Bad(file_name, Concat(Shown(field.key), " stands twice in the header"));
    }
    if (field.key == "__metadata__") continue;
    SafetensorsEntry entry;
    entry.name = std::string(field.key);
    if (absl::Status status = ReadEntry(field.value, data_size, entry); !status.ok()) {
      return Bad(file_name, Concat(Shown(field.key), ": ", status.message()));
    }
    entry.begin += data_begin;
    entry.end += data_begin;
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  RETURN_IF_ERROR(CheckOverlaps(file_name, entries));
  return entries;
}

}  // namespace ballast
