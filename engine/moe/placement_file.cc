#include "engine/moe/placement_file.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "engine/concat.h"
#include "engine/moe/counted_placement.h"
#include "engine/moe/placement_reader.h"

namespace ballast {
namespace {

constexpr char kPhysical[] = "physical_to_logical_map";
constexpr char kCounts[] = "logical_count";
constexpr char kAssignments[] = "initial_global_assignments";
constexpr char kNumSlots[] = "num_slots";
// More than any recording of rows has, and few enough that their sums are exact.
constexpr double kMaxCount = 1e12;

int FewestSlots(const PlacementShape& shape) {
  return (shape.experts + shape.ranks - 1) / shape.ranks;
}

bool IsMoe(const PlacementShape& shape, int layer) {
  return std::binary_search(shape.moe_layers.begin(), shape.moe_layers.end(), layer);
}

absl::StatusOr<int> SlotsPerRank(size_t slots, const PlacementShape& shape, const std::string& name,
                                 const std::string& where) {
  const auto ranks = static_cast<size_t>(shape.ranks);
  if (slots == 0 || slots % ranks != 0) {
    return PlacementError(name, where, absl::StrCat(slots, " slots"),
                          absl::StrCat("a multiple of ", ranks, " ranks"));
  }
  if (slots / ranks > kMaxSlotsPerRank) {
    return PlacementError(name, where, absl::StrCat(slots / ranks, " slots per rank"),
                          absl::StrCat("at most ", kMaxSlotsPerRank));
  }
  return static_cast<int>(slots / ranks);
}

// Other servers split an expert's rows over its slots even on one rank; here that is one slot.
int FoldDuplicates(LayerPlacement& placement) {
  int folded = 0;
  for (int rank = 0; rank < placement.ranks; ++rank) {
    const auto begin = placement.slot_expert.begin() + rank * placement.slots_per_rank;
    for (auto slot = begin; slot != begin + placement.slots_per_rank; ++slot) {
      if (*slot >= 0 && std::find(begin, slot, *slot) != slot) {
        *slot = -1;
        ++folded;
      }
    }
  }
  return folded;
}

void FoldAll(ReadLayers& read, const std::string& name) {
  int folded = 0;
  std::vector<int> layers;
  for (auto& [layer, placement] : read.layers) {
    const int here = FoldDuplicates(placement);
    if (here > 0) layers.push_back(layer);
    folded += here;
  }
  if (folded == 0) return;
  read.warnings.push_back(absl::StrCat(
      name, ": left ", folded, " slots empty that repeat an expert of their rank, in layers ",
      absl::StrJoin(layers, ", ")));
}

void WarnOfMissing(const PlacementShape& shape, const std::string& name, ReadLayers& read) {
  std::vector<int> missing;
  for (const int layer : shape.moe_layers) {
    if (!read.layers.contains(layer)) missing.push_back(layer);
  }
  if (missing.empty()) return;
  read.warnings.push_back(absl::StrCat(name, ": says nothing of layers ",
                                       absl::StrJoin(missing, ", "), "; they are placed evenly"));
}

std::string DescribeList(const DocumentNode& list, const char* what) {
  if (list.IsNumbers()) return absl::StrCat(list.numbers.size(), " ", what);
  return list.odd.empty() ? Describe(list) : list.odd;
}

// An expert for each of all ranks' slots. `slots`: how many there are; 0: not known before.
absl::StatusOr<LayerPlacement> ReadSlots(const DocumentNode& list, int layer,
                                         const std::string& name, const PlacementShape& shape,
                                         size_t& slots) {
  const std::string where = absl::StrCat("layer ", layer);
  if (!list.IsNumbers() || (slots > 0 && list.numbers.size() != slots)) {
    const std::string count = slots > 0 ? absl::StrCat(slots, " ") : "";
    return PlacementError(name, where, DescribeList(list, "slots"),
                          absl::StrCat("a list of ", count, "expert numbers"));
  }
  slots = list.numbers.size();
  ASSIGN_OR_RETURN(const int per_rank, SlotsPerRank(slots, shape, name, where));
  ASSIGN_OR_RETURN(auto experts, ReadExperts(list, 0, shape.experts, name, {layer, -1, per_rank}));
  return LayerPlacement{shape.ranks, per_rank, std::move(experts)};
}

absl::StatusOr<ReadLayers> ReadTensorRtLlm(const DocumentNode& root, const std::string& name,
                                           const PlacementShape& shape) {
  ReadLayers read;
  size_t slots = 0;
  if (const DocumentNode* node = root.Find(kNumSlots); node != nullptr) {
    ASSIGN_OR_RETURN(const int found,
                     ReadWhole(*node, 1, shape.ranks * kMaxSlotsPerRank, name, kNumSlots));
    slots = static_cast<size_t>(found);
    ASSIGN_OR_RETURN(read.slots_per_rank, SlotsPerRank(slots, shape, name, kNumSlots));
  }
  const DocumentNode* assignments = root.Find(kAssignments);
  // Their servers, too, start evenly then.
  if (assignments == nullptr || assignments->kind == DocumentNode::Kind::kNothing) return read;
  if (assignments->kind != DocumentNode::Kind::kMap) {
    return PlacementError(name, kAssignments, Describe(*assignments),
                          "a map from layer to experts");
  }
  std::vector<int> ignored;
  for (size_t i = 0; i < assignments->keys.size(); ++i) {
    ASSIGN_OR_RETURN(const int layer,
                     ReadWhole(assignments->keys[i], 0, 1 << 20, name, kAssignments));
    // Theirs hold the layers of multi-token prediction as well.
    if (!IsMoe(shape, layer)) {
      ignored.push_back(layer);
      continue;
    }
    ASSIGN_OR_RETURN(LayerPlacement placement,
                     ReadSlots(assignments->items[i], layer, name, shape, slots));
    if (!read.layers.emplace(layer, std::move(placement)).second) {
      return PlacementError(name, absl::StrCat("layer ", layer), "it twice", "it once");
    }
  }
  if (!ignored.empty()) {
    read.warnings.push_back(absl::StrCat(name, ": ignored layers ", absl::StrJoin(ignored, ", "),
                                         ", which have no experts in this model"));
  }
  WarnOfMissing(shape, name, read);
  return read;
}

// `node` as one entry for each layer of the model, dense ones included.
absl::Status CheckLayerRows(const DocumentNode& node, const PlacementShape& shape,
                            const std::string& name, const std::string& where) {
  const auto layers = static_cast<size_t>(shape.layers);
  if (node.IsItems() && node.items.size() == layers) {
    return absl::OkStatus();
  }
  const std::string found =
      node.IsItems() ? absl::StrCat(node.items.size(), " lists") : Describe(node);
  return PlacementError(
      name, where, found,
      absl::StrCat("a list for each of the ", layers, " layers, dense ones included"));
}

absl::StatusOr<ReadLayers> ReadSglangMap(const DocumentNode& map, const std::string& name,
                                         const PlacementShape& shape) {
  RETURN_IF_ERROR(CheckLayerRows(map, shape, name, kPhysical));
  ReadLayers read;
  size_t slots = 0;
  for (const int layer : shape.moe_layers) {
    ASSIGN_OR_RETURN(read.layers[layer],
                     ReadSlots(map.items[static_cast<size_t>(layer)], layer, name, shape, slots));
  }
  return read;
}

// Adds one list of counts to `sums` [experts].
absl::Status AddCounts(const DocumentNode& list, const std::string& name, const std::string& where,
                       std::vector<double>& sums) {
  if (!list.IsNumbers() || list.numbers.size() != sums.size()) {
    return PlacementError(name, where, DescribeList(list, "counts"),
                          absl::StrCat("a list of ", sums.size(), " counts, one per expert"));
  }
  for (size_t expert = 0; expert < sums.size(); ++expert) {
    const double count = list.numbers[expert];
    if (!(count >= 0 && count <= kMaxCount)) {
      return PlacementError(name, absl::StrCat(where, ", expert ", expert),
                            absl::StrCat("count ", count), absl::StrCat("0 to ", kMaxCount));
    }
    sums[expert] += count;
  }
  return absl::OkStatus();
}

absl::StatusOr<ReadLayers> ReadSglangCounts(const DocumentNode& counts, const std::string& name,
                                            const PlacementShape& shape) {
  // [layers][experts], or [steps][layers][experts], which SGLang sums over steps.
  std::vector<const DocumentNode*> steps;
  const bool has_steps = counts.IsItems() && !counts.items.empty() &&
                         counts.items.front().kind == DocumentNode::Kind::kList &&
                         !counts.items.front().items.empty();
  if (has_steps) {
    for (const DocumentNode& step : counts.items) steps.push_back(&step);
  } else {
    steps.push_back(&counts);
  }
  const int slots = shape.slots_per_rank > 0 ? shape.slots_per_rank : FewestSlots(shape);
  if (slots * shape.ranks < shape.experts) {
    return PlacementError(name, kCounts, absl::StrCat(slots, " slots per rank"),
                          absl::StrCat(FewestSlots(shape), " at least for ", shape.experts,
                                       " experts on ", shape.ranks, " ranks"));
  }
  std::vector<std::vector<double>> sums(shape.moe_layers.size());
  for (auto& layer : sums) layer.resize(static_cast<size_t>(shape.experts));
  for (size_t step = 0; step < steps.size(); ++step) {
    const std::string prefix = has_steps ? absl::StrCat("step ", step, ", ") : "";
    RETURN_IF_ERROR(CheckLayerRows(*steps[step], shape, name, absl::StrCat(prefix, kCounts)));
    for (size_t i = 0; i < sums.size(); ++i) {
      const int layer = shape.moe_layers[i];
      RETURN_IF_ERROR(AddCounts(steps[step]->items[static_cast<size_t>(layer)], name,
                                absl::StrCat(prefix, "layer ", layer), sums[i]));
    }
  }
  ReadLayers read;
  for (size_t i = 0; i < sums.size(); ++i) {
    read.layers[shape.moe_layers[i]] = PlacementFromCounts(sums[i], shape.ranks, slots);
  }
  return read;
}

absl::StatusOr<ReadLayers> ReadAny(const DocumentNode& root, const std::string& name,
                                   const PlacementShape& shape) {
  // SGLang looks for its keys in this order.
  if (const DocumentNode* map = root.Find(kPhysical); map != nullptr) {
    ASSIGN_OR_RETURN(ReadLayers read, ReadSglangMap(*map, name, shape));
    FoldAll(read, name);
    return read;
  }
  if (const DocumentNode* counts = root.Find(kCounts); counts != nullptr) {
    return ReadSglangCounts(*counts, name, shape);
  }
  if (root.Find(kAssignments) != nullptr || root.Find(kNumSlots) != nullptr) {
    ASSIGN_OR_RETURN(ReadLayers read, ReadTensorRtLlm(root, name, shape));
    FoldAll(read, name);
    return read;
  }
  if (root.Find("layers") != nullptr || root.Find("slots_per_rank") != nullptr) {
    return ReadOwnPlacement(root, name, shape);
  }
  const std::string found =
      root.keys.empty() ? Describe(root) : Concat("a map with ", absl::StrJoin(root.keys, ", "));
  return absl::InvalidArgumentError(
      Concat(name, ": found ", found.substr(0, 200), ", expected a map with layers (Ballast), ",
             kAssignments, " (TensorRT-LLM), ", kPhysical, " or ", kCounts, " (SGLang)"));
}

// The same experts in `slots_per_rank` slots, which are no fewer; the rest are empty.
LayerPlacement Widen(const LayerPlacement& placement, int slots_per_rank) {
  LayerPlacement wide{placement.ranks, slots_per_rank, {}};
  for (int rank = 0; rank < placement.ranks; ++rank) {
    std::vector<int> experts = ExpertsOfRank(placement, rank);
    experts.resize(static_cast<size_t>(slots_per_rank), -1);
    wide.slot_expert.insert(wide.slot_expert.end(), experts.begin(), experts.end());
  }
  return wide;
}

absl::StatusOr<ModelPlacement> MakeModelPlacement(const ReadLayers& read, const std::string& name,
                                                  const PlacementShape& shape) {
  int filed = read.slots_per_rank;
  for (const auto& [layer, placement] : read.layers) {
    filed = std::max(filed, placement.slots_per_rank);
  }
  if (shape.slots_per_rank > 0 && shape.slots_per_rank < filed) {
    return absl::InvalidArgumentError(Concat(name, ": found ", filed,
                                             " slots per rank, expected at most ",
                                             shape.slots_per_rank, " (--slots-per-rank)"));
  }
  if (shape.slots_per_rank > 0) filed = shape.slots_per_rank;
  const int slots = filed > 0 ? filed : FewestSlots(shape);
  ModelPlacement model;
  model.warnings = read.warnings;
  model.layers.assign(static_cast<size_t>(shape.layers), LayerPlacement{shape.ranks, 0, {}});
  for (const int layer : shape.moe_layers) {
    const auto found = read.layers.find(layer);
    model.layers[layer] = found == read.layers.end()
                              ? EvenPlacement(shape.experts, shape.ranks, slots)
                              : Widen(found->second, slots);
    const absl::Status valid =
        ValidatePlacement(model.layers[layer], layer, shape.experts, shape.ranks);
    if (!valid.ok()) return absl::InvalidArgumentError(Concat(name, ": ", valid.message()));
  }
  return model;
}

}  // namespace

absl::Status PlacementError(const std::string& name, const std::string& where,
                            const std::string& found, const std::string& expected) {
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": ", where, ": found ", found, ", expected ", expected));
}

absl::StatusOr<int> ReadWhole(const std::string& text, int low, int high, const std::string& name,
                              const std::string& where) {
  int value = 0;
  if (!absl::SimpleAtoi(text, &value) || value < low || value > high) {
    return PlacementError(
        name, where, text.empty() ? "nothing" : text,
        low == high ? absl::StrCat(low) : absl::StrCat("a whole number, ", low, " to ", high));
  }
  return value;
}

absl::StatusOr<int> ReadWhole(const DocumentNode& node, int low, int high, const std::string& name,
                              const std::string& where) {
  return ReadWhole(Describe(node), low, high, name, where);
}

absl::StatusOr<std::vector<int32_t>> ReadExperts(const DocumentNode& node, int low, int experts,
                                                 const std::string& name,
                                                 const SlotListPlace& place) {
  const auto where = [&](size_t slot) {
    const int rank = place.rank >= 0 ? place.rank : static_cast<int>(slot) / place.slots_per_rank;
    return absl::StrCat("layer ", place.layer, ", rank ", rank);
  };
  if (!node.IsNumbers()) {
    const std::string at = place.rank >= 0 ? where(0) : absl::StrCat("layer ", place.layer);
    return PlacementError(name, at, node.odd.empty() ? Describe(node) : node.odd,
                          "a list of expert numbers");
  }
  std::vector<int32_t> read;
  read.reserve(node.numbers.size());
  for (size_t slot = 0; slot < node.numbers.size(); ++slot) {
    const double number = node.numbers[slot];
    if (number != std::floor(number) || number < low || number >= experts) {
      return PlacementError(name, where(slot), absl::StrCat("expert ", number),
                            absl::StrCat(low, " to ", experts - 1));
    }
    read.push_back(static_cast<int32_t>(number));
  }
  return read;
}

absl::StatusOr<ModelPlacement> EvenModelPlacement(const PlacementShape& shape) {
  ReadLayers read;
  return MakeModelPlacement(read, "--slots-per-rank", shape);
}

absl::StatusOr<ModelPlacement> ParsePlacement(std::string_view text, const std::string& name,
                                              const PlacementShape& shape) {
  ASSIGN_OR_RETURN(const DocumentNode root, ParseDocument(text, name));
  ASSIGN_OR_RETURN(const ReadLayers read, ReadAny(root, name, shape));
  return MakeModelPlacement(read, name, shape);
}

}  // namespace ballast
