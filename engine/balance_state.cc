#include "engine/balance_state.h"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/checkpoint/mapped_file.h"
#include "engine/moe/document.h"

namespace ballast {
namespace {

constexpr int kMaxLayers = 1 << 16;

// A state is written whole beside the old one, then takes its name.
std::string FreshPath(const std::string& path) { return path + ".new"; }

absl::Status SystemError(const char* what, const std::string& path) {
  return absl::UnavailableError(absl::StrCat(what, " ", path, ": ", std::strerror(errno)));
}

absl::Status Wrong(const std::string& field, const DocumentNode* found, const char* expected) {
  return absl::InvalidArgumentError(absl::StrCat(
      field, ": found ", found == nullptr ? "nothing" : Describe(*found), ", expected ", expected));
}

absl::StatusOr<double> ReadNumber(const DocumentNode& map, const char* key) {
  const DocumentNode* node = map.Find(key);
  double value = 0;
  if (node == nullptr || node->kind != DocumentNode::Kind::kScalar ||
      !absl::SimpleAtod(node->text, &value) || !std::isfinite(value)) {
    return Wrong(key, node, "a finite number");
  }
  return value;
}

absl::StatusOr<int> ReadCount(const DocumentNode& map, const char* key) {
  ASSIGN_OR_RETURN(const double value, ReadNumber(map, key));
  if (value != std::floor(value) || value < 0 || value > kMaxLayers) {
    return Wrong(key, map.Find(key), "a small whole number");
  }
  return static_cast<int>(value);
}

absl::Status ReadLayer(const DocumentNode& node, std::vector<LayerPlacement>& placement) {
  ASSIGN_OR_RETURN(const int layer, ReadCount(node, "layer"));
  LayerPlacement read;
  ASSIGN_OR_RETURN(read.ranks, ReadCount(node, "ranks"));
  ASSIGN_OR_RETURN(read.slots_per_rank, ReadCount(node, "slots_per_rank"));
  const DocumentNode* slots = node.Find("slot_expert");
  if (slots == nullptr || !slots->IsNumbers()) {
    return Wrong("slot_expert", slots, "a list of experts");
  }
  for (const double expert : slots->numbers) {
    if (expert != std::floor(expert) || std::abs(expert) > std::numeric_limits<int32_t>::max()) {
      return absl::InvalidArgumentError(
          absl::StrCat("layer ", layer, ": found expert ", expert, ", expected a whole number"));
    }
    read.slot_expert.push_back(static_cast<int32_t>(expert));
  }
  if (placement.size() <= static_cast<size_t>(layer)) {
    placement.resize(static_cast<size_t>(layer) + 1);
  }
  placement[static_cast<size_t>(layer)] = std::move(read);
  return absl::OkStatus();
}

}  // namespace

std::string FormatBalanceState(const BalanceState& state) {
  std::vector<std::string> layers;
  for (size_t layer = 0; layer < state.placement.size(); ++layer) {
    const LayerPlacement& placement = state.placement[layer];
    if (placement.slot_expert.empty()) continue;
    layers.push_back(absl::StrFormat(
        "    {\"layer\": %d, \"ranks\": %d, \"slots_per_rank\": %d, \"slot_expert\": [%s]}", layer,
        placement.ranks, placement.slots_per_rank, absl::StrJoin(placement.slot_expert, ", ")));
  }
  std::vector<std::string> speed;
  for (const double value : state.costs.speed) speed.push_back(absl::StrFormat("%.17g", value));
  return absl::StrFormat(
      "{\n  \"fingerprint\": \"%s\",\n  \"costs\": {\"tile_seconds\": %.17g, \"floor_seconds\": "
      "%.17g, \"speed\": [%s]},\n  \"layers\": [\n%s\n  ]\n}\n",
      state.fingerprint, state.costs.tile_seconds, state.costs.floor_seconds,
      absl::StrJoin(speed, ", "), absl::StrJoin(layers, ",\n"));
}

absl::StatusOr<BalanceState> ParseBalanceState(const std::string& text) {
  ASSIGN_OR_RETURN(const DocumentNode root, ParseDocument(text, "state"));
  BalanceState state;
  const DocumentNode* fingerprint = root.Find("fingerprint");
  if (fingerprint == nullptr || fingerprint->kind != DocumentNode::Kind::kScalar) {
    return Wrong("fingerprint", fingerprint, "text");
  }
  state.fingerprint = fingerprint->text;
  const DocumentNode* costs = root.Find("costs");
  if (costs == nullptr || costs->kind != DocumentNode::Kind::kMap) {
    return Wrong("costs", costs, "a map");
  }
  ASSIGN_OR_RETURN(state.costs.tile_seconds, ReadNumber(*costs, "tile_seconds"));
  ASSIGN_OR_RETURN(state.costs.floor_seconds, ReadNumber(*costs, "floor_seconds"));
  const DocumentNode* speed = costs->Find("speed");
  if (speed == nullptr || !speed->IsNumbers()) return Wrong("speed", speed, "a list of numbers");
  state.costs.speed = speed->numbers;
  const DocumentNode* layers = root.Find("layers");
  if (layers == nullptr || !layers->IsItems()) return Wrong("layers", layers, "a list of maps");
  for (const DocumentNode& layer : layers->items) {
    RETURN_IF_ERROR(ReadLayer(layer, state.placement));
  }
  return state;
}

absl::Status CheckBalanceStateIsWritable(const std::string& path) {
  const std::string fresh = FreshPath(path);
  if (!std::ofstream(fresh, std::ios::binary | std::ios::trunc)) {
    return SystemError("cannot write", fresh);
  }
  std::remove(fresh.c_str());
  return absl::OkStatus();
}

absl::Status WriteBalanceState(const std::string& path, const BalanceState& state) {
  const std::string fresh = FreshPath(path);
  {
    std::ofstream file(fresh, std::ios::binary | std::ios::trunc);
    file << FormatBalanceState(state);
    file.flush();
    if (!file) return SystemError("cannot write", fresh);
  }
  if (std::rename(fresh.c_str(), path.c_str()) != 0) {
    absl::Status error = SystemError("cannot replace", path);
    std::remove(fresh.c_str());
    return error;
  }
  return absl::OkStatus();
}

absl::StatusOr<BalanceState> ReadBalanceState(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMaxJsonBytes));
  return ParseBalanceState(text);
}

}  // namespace ballast
