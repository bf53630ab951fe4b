// Ballast's own placement format; docs/placement.md describes it.
#include <algorithm>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/moe/placement_reader.h"

namespace ballast {
namespace {

// What a layer's entry asks for.
struct LayerRules {
  std::vector<std::vector<int32_t>> slots;  // [ranks] experts, listed; or none, and these hold:
  std::map<int, std::vector<int>> pins;     // expert -> the ranks it stands on
  std::map<int, int> replicas;              // expert -> on how many ranks
};

struct Place {
  const std::string& name;  // of the file
  const PlacementShape& shape;
  int layer;
  std::string Where() const { return absl::StrCat("layer ", layer); }
};

absl::Status CheckKeys(const DocumentNode& map, const std::vector<std::string>& known,
                       const std::string& name, const std::string& where) {
  for (const std::string& key : map.keys) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return PlacementError(name, where, absl::StrCat("the key ", key),
                            absl::StrCat(known.front(), known.size() > 1 ? " or " : "",
                                         known.size() > 1 ? known.back() : ""));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::vector<int32_t>>> ReadSlotLists(const DocumentNode& lists,
                                                                const Place& place) {
  const int ranks = place.shape.ranks;
  if (!lists.IsItems() || static_cast<int>(lists.items.size()) != ranks) {
    return PlacementError(
        place.name, place.Where(),
        lists.IsItems() ? absl::StrCat(lists.items.size(), " lists") : "a list of single values",
        absl::StrCat("a list of experts for each of ", ranks, " ranks"));
  }
  std::vector<std::vector<int32_t>> slots;
  for (int rank = 0; rank < ranks; ++rank) {
    const DocumentNode& list = lists.items[static_cast<size_t>(rank)];
    ASSIGN_OR_RETURN(slots.emplace_back(), ReadExperts(list, -1, place.shape.experts, place.name,
                                                       {place.layer, rank, 1}));
    if (slots.back().size() > kMaxSlotsPerRank) {
      return PlacementError(place.name, absl::StrCat(place.Where(), ", rank ", rank),
                            absl::StrCat(slots.back().size(), " slots"),
                            absl::StrCat("at most ", kMaxSlotsPerRank));
    }
  }
  return slots;
}

absl::StatusOr<std::vector<int>> ReadRanks(const DocumentNode& node, const Place& place,
                                           const std::string& where) {
  const int last = place.shape.ranks - 1;
  if (node.kind == DocumentNode::Kind::kScalar) {
    ASSIGN_OR_RETURN(const int rank, ReadWhole(node, 0, last, place.name, where));
    return std::vector<int>{rank};
  }
  if (!node.IsNumbers() || node.numbers.empty()) {
    return PlacementError(place.name, where, node.odd.empty() ? Describe(node) : node.odd,
                          "a rank or a list of ranks");
  }
  std::vector<int> ranks;
  for (const double number : node.numbers) {
    ASSIGN_OR_RETURN(const int rank, ReadWhole(absl::StrCat(number), 0, last, place.name, where));
    if (std::find(ranks.begin(), ranks.end(), rank) != ranks.end()) {
      return PlacementError(place.name, where, absl::StrCat("rank ", rank, " twice"), "it once");
    }
    ranks.push_back(rank);
  }
  return ranks;
}

absl::StatusOr<LayerRules> ReadRules(const DocumentNode& entry, const Place& place) {
  LayerRules rules;
  if (entry.kind == DocumentNode::Kind::kList) {
    ASSIGN_OR_RETURN(rules.slots, ReadSlotLists(entry, place));
    return rules;
  }
  if (entry.kind != DocumentNode::Kind::kMap) {
    return PlacementError(place.name, place.Where(), Describe(entry),
                          "a list of experts for each rank, or a map with pin or replicas");
  }
  RETURN_IF_ERROR(CheckKeys(entry, {"pin", "replicas"}, place.name, place.Where()));
  for (const char* key : {"pin", "replicas"}) {
    const DocumentNode* map = entry.Find(key);
    if (map == nullptr || map->kind == DocumentNode::Kind::kNothing) continue;
    const std::string where = absl::StrCat(place.Where(), ", ", key);
    if (map->kind != DocumentNode::Kind::kMap) {
      return PlacementError(place.name, where, Describe(*map), "a map by expert number");
    }
    for (size_t i = 0; i < map->keys.size(); ++i) {
      ASSIGN_OR_RETURN(const int expert,
                       ReadWhole(map->keys[i], 0, place.shape.experts - 1, place.name, where));
      const std::string of = absl::StrCat(where, ", expert ", expert);
      const bool pins = map == entry.Find("pin");
      // As 5 and 05, which are two keys.
      if (pins ? rules.pins.contains(expert) : rules.replicas.contains(expert)) {
        return PlacementError(place.name, of, "it twice", "it once");
      }
      if (pins) {
        ASSIGN_OR_RETURN(rules.pins[expert], ReadRanks(map->items[i], place, of));
        continue;
      }
      if (rules.pins.contains(expert)) {
        return PlacementError(place.name, of, "it pinned too", "one of the two");
      }
      ASSIGN_OR_RETURN(rules.replicas[expert],
                       ReadWhole(map->items[i], 1, place.shape.ranks, place.name, of));
    }
  }
  return rules;
}

// Copies of all experts under `rules`.
int Copies(const LayerRules& rules, int experts) {
  int copies = experts;
  for (const auto& [expert, ranks] : rules.pins) copies += static_cast<int>(ranks.size()) - 1;
  for (const auto& [expert, replicas] : rules.replicas) copies += replicas - 1;
  return copies;
}

// Pinned experts where they are wanted, each of the others on the ranks with the most room: that
// finds room whenever there is some (Gale and Ryser). Nothing: there is none.
std::optional<std::vector<std::vector<int32_t>>> Spread(const LayerRules& rules,
                                                        const PlacementShape& shape,
                                                        int slots_per_rank) {
  std::vector<std::vector<int32_t>> slots(static_cast<size_t>(shape.ranks));
  const auto room = static_cast<size_t>(slots_per_rank);
  for (const auto& [expert, ranks] : rules.pins) {
    for (const int rank : ranks) {
      slots[rank].push_back(expert);
      if (slots[rank].size() > room) return std::nullopt;
    }
  }
  std::vector<int> order(slots.size());
  std::iota(order.begin(), order.end(), 0);
  for (int expert = 0; expert < shape.experts; ++expert) {
    if (rules.pins.contains(expert)) continue;
    const auto wanted = rules.replicas.find(expert);
    const int replicas = wanted == rules.replicas.end() ? 1 : wanted->second;
    std::sort(order.begin(), order.end(), [&](int a, int b) {
      return slots[a].size() != slots[b].size() ? slots[a].size() < slots[b].size() : a < b;
    });
    for (int i = 0; i < replicas; ++i) {
      if (slots[order[i]].size() == room) return std::nullopt;
      slots[order[i]].push_back(expert);
    }
  }
  return slots;
}

int SlotsNeeded(const LayerRules& rules, const PlacementShape& shape) {
  size_t needed = 0;
  for (const auto& rank : rules.slots) needed = std::max(needed, rank.size());
  if (needed > 0) return static_cast<int>(needed);
  int slots = (Copies(rules, shape.experts) + shape.ranks - 1) / shape.ranks;
  while (!Spread(rules, shape, slots)) ++slots;  // no more than shape.experts
  return slots;
}

absl::StatusOr<LayerPlacement> Build(LayerRules rules, const Place& place, int slots_per_rank) {
  if (rules.slots.empty()) {
    auto spread = Spread(rules, place.shape, slots_per_rank);
    if (!spread) {
      return PlacementError(
          place.name, place.Where(), absl::StrCat(slots_per_rank, " slots per rank"),
          absl::StrCat(SlotsNeeded(rules, place.shape), " at least for what it asks"));
    }
    rules.slots = *std::move(spread);
  }
  LayerPlacement placement{place.shape.ranks, slots_per_rank, {}};
  for (size_t rank = 0; rank < rules.slots.size(); ++rank) {
    std::vector<int32_t>& experts = rules.slots[rank];
    if (experts.size() > static_cast<size_t>(slots_per_rank)) {
      return PlacementError(place.name, absl::StrCat(place.Where(), ", rank ", rank),
                            absl::StrCat(experts.size(), " slots"),
                            absl::StrCat(slots_per_rank, " at most"));
    }
    experts.resize(static_cast<size_t>(slots_per_rank), -1);
    placement.slot_expert.insert(placement.slot_expert.end(), experts.begin(), experts.end());
  }
  return placement;
}

absl::StatusOr<std::map<int, LayerRules>> ReadLayerRules(const DocumentNode& layers,
                                                         const std::string& name,
                                                         const PlacementShape& shape) {
  std::map<int, LayerRules> rules;
  if (layers.kind == DocumentNode::Kind::kNothing) return rules;
  if (layers.kind != DocumentNode::Kind::kMap) {
    return PlacementError(name, "layers", Describe(layers), "a map by layer number, or all");
  }
  // First, so that a layer's own entry wins over it.
  if (const DocumentNode* all = layers.Find("all"); all != nullptr) {
    for (const int layer : shape.moe_layers) {
      ASSIGN_OR_RETURN(rules[layer], ReadRules(*all, {name, shape, layer}));
    }
  }
  std::set<int> named;
  for (size_t i = 0; i < layers.keys.size(); ++i) {
    if (layers.keys[i] == "all") continue;
    ASSIGN_OR_RETURN(const int layer,
                     ReadWhole(layers.keys[i], 0, shape.layers - 1, name, "layers"));
    if (!std::binary_search(shape.moe_layers.begin(), shape.moe_layers.end(), layer)) {
      return PlacementError(name, absl::StrCat("layer ", layer), "experts", "none: it is dense");
    }
    if (!named.insert(layer).second) {
      return PlacementError(name, absl::StrCat("layer ", layer), "it twice", "it once");
    }
    ASSIGN_OR_RETURN(rules[layer], ReadRules(layers.items[i], {name, shape, layer}));
  }
  return rules;
}

}  // namespace

absl::StatusOr<ReadLayers> ReadOwnPlacement(const DocumentNode& root, const std::string& name,
                                            const PlacementShape& shape) {
  for (const std::string& key : root.keys) {
    if (key != "ranks" && key != "slots_per_rank" && key != "layers") {
      return PlacementError(name, "keys", key, "ranks, slots_per_rank and layers");
    }
  }
  if (const DocumentNode* ranks = root.Find("ranks"); ranks != nullptr) {
    RETURN_IF_ERROR(ReadWhole(*ranks, shape.ranks, shape.ranks, name, "ranks").status());
  }
  ReadLayers read;
  if (const DocumentNode* slots = root.Find("slots_per_rank"); slots != nullptr) {
    ASSIGN_OR_RETURN(read.slots_per_rank,
                     ReadWhole(*slots, 1, kMaxSlotsPerRank, name, "slots_per_rank"));
  }
  const DocumentNode* layers = root.Find("layers");
  if (layers == nullptr) return read;
  ASSIGN_OR_RETURN(const auto rules, ReadLayerRules(*layers, name, shape));
  int slots = read.slots_per_rank > 0 ? read.slots_per_rank : shape.slots_per_rank;
  if (slots == 0) {
    for (const auto& [layer, of_layer] : rules)
      slots = std::max(slots, SlotsNeeded(of_layer, shape));
  }
  for (const auto& [layer, of_layer] : rules) {
    ASSIGN_OR_RETURN(read.layers[layer], Build(of_layer, {name, shape, layer}, slots));
  }
  return read;
}

}  // namespace ballast
