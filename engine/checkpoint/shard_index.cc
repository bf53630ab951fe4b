#include "engine/checkpoint/shard_index.h"

#include <set>

#include "engine/concat.h"
#include "simdjson.h"

namespace ballast {
namespace {

// Published checkpoints have up to a few hundred; each costs a mapping.
constexpr size_t kMaxShards = 4096;

bool IsPlainName(std::string_view name) {
  return name.ends_with(".safetensors") && name.size() <= 255 && name[0] != '.' &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

}  // namespace

absl::StatusOr<std::map<std::string, std::vector<std::string>>> ParseShardIndex(
    std::string_view file_name, std::string_view json) {
  const auto bad = [&](std::string_view message) {
    return absl::InvalidArgumentError(Concat(file_name, ": ", message));
  };
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  const simdjson::padded_string padded(json);  // the parser reads past the end of its input
  if (simdjson::error_code error = parser.parse(padded).get(root)) {
    return bad(Concat("not JSON: ", simdjson::error_message(error)));
  }
  simdjson::dom::object weight_map;
  if (root.at_key("weight_map").get_object().get(weight_map)) {
    return bad("weight_map is missing or no object");
  }
  std::map<std::string, std::vector<std::string>> shards;
  std::set<std::string_view> seen;
  for (simdjson::dom::key_value_pair field : weight_map) {
    std::string_view shard;
    if (field.value.get_string().get(shard) || !IsPlainName(shard)) {
      return bad(Concat("weight_map.", field.key.substr(0, 200), " is ",
                        simdjson::minify(field.value).substr(0, 200),
                        ", expected the name of a .safetensors file of this folder"));
    }
    if (!seen.insert(field.key).second) {
      return bad(Concat(field.key.substr(0, 200), " stands twice in weight_map"));
    }
    shards[std::string(shard)].emplace_back(field.key);
    if (shards.size() > kMaxShards) {
      return bad(Concat("names more than ", kMaxShards, " files"));
    }
  }
  if (shards.empty()) return bad("weight_map is empty");
  return shards;
}

}  // namespace ballast
