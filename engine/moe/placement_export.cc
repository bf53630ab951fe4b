#include "engine/moe/placement_export.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace ballast {
namespace {

struct Layout {
  int ranks = 1;
  int slots_per_rank = 0;  // of the widest layer
};

Layout CommonLayout(std::span<const LayerPlacement> layers) {
  Layout layout;
  for (const LayerPlacement& layer : layers) {
    if (layer.slots_per_rank == 0) continue;
    layout.ranks = layer.ranks;
    layout.slots_per_rank = std::max(layout.slots_per_rank, layer.slots_per_rank);
  }
  return layout;
}

std::string List(const std::vector<int>& experts) {
  return absl::StrCat("[", absl::StrJoin(experts, ", "), "]");
}

std::string OwnYaml(std::span<const LayerPlacement> layers) {
  const Layout layout = CommonLayout(layers);
  std::string text = absl::StrCat("ranks: ", layout.ranks,
                                  "\nslots_per_rank: ", layout.slots_per_rank, "\nlayers:\n");
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    if (layers[layer].slots_per_rank == 0) continue;
    absl::StrAppend(&text, "  ", layer, ":\n");
    for (int rank = 0; rank < layout.ranks; ++rank) {
      absl::StrAppend(&text, "    - ", List(ExpertsOfRank(layers[layer], rank)), "\n");
    }
  }
  return text;
}

// One expert for every slot of `layout`, rank-major. `added`: slots that became replicas.
std::vector<int> WithoutEmptySlots(const LayerPlacement& layer, int experts, const Layout& layout,
                                   int& added) {
  std::vector<int> filled;
  int next = 0;  // for ranks without an expert, each another one
  for (int rank = 0; rank < layout.ranks; ++rank) {
    std::vector<int> of_rank = ExpertsOfRank(layer, rank);
    of_rank.resize(static_cast<size_t>(layout.slots_per_rank), -1);
    const auto held = std::find_if(of_rank.begin(), of_rank.end(), [](int e) { return e >= 0; });
    int repeated = 0;
    if (held != of_rank.end()) {
      repeated = *held;
    } else {
      repeated = next++ % experts;
      ++added;
    }
    std::replace(of_rank.begin(), of_rank.end(), -1, repeated);
    filled.insert(filled.end(), of_rank.begin(), of_rank.end());
  }
  return filled;
}

std::string TensorRtLlm(std::span<const LayerPlacement> layers, int experts, int& added) {
  const Layout layout = CommonLayout(layers);
  std::string text = "initial_global_assignments:\n";
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    if (layers[layer].slots_per_rank == 0) continue;
    absl::StrAppend(&text, "  ", layer, ": ",
                    List(WithoutEmptySlots(layers[layer], experts, layout, added)), "\n");
  }
  absl::StrAppend(&text, "num_slots: ", layout.ranks * layout.slots_per_rank,
                  "\nlayer_updates_per_iter: 0\n");
  return text;
}

std::string Sglang(std::span<const LayerPlacement> layers, int experts, int& added) {
  const Layout layout = CommonLayout(layers);
  std::vector<std::string> lists;
  for (const LayerPlacement& layer : layers) {
    std::vector<int> filled;
    if (layer.slots_per_rank == 0) {
      for (int slot = 0; slot < layout.ranks * layout.slots_per_rank; ++slot) {
        filled.push_back(slot % experts);
      }
    } else {
      filled = WithoutEmptySlots(layer, experts, layout, added);
    }
    lists.push_back(List(filled));
  }
  return absl::StrCat("{\"physical_to_logical_map\": [\n  ", absl::StrJoin(lists, ",\n  "),
                      "\n]}\n");
}

}  // namespace

PlacementText ExportPlacement(std::span<const LayerPlacement> layers, int experts,
                              PlacementFormat format) {
  PlacementText result;
  int added = 0;
  switch (format) {
    case PlacementFormat::kYaml:
      result.text = OwnYaml(layers);
      break;
    case PlacementFormat::kTensorRtLlm:
      result.text = TensorRtLlm(layers, experts, added);
      break;
    case PlacementFormat::kSglang:
      result.text = Sglang(layers, experts, added);
      break;
  }
  if (added > 0) {
    result.warnings.push_back(absl::StrCat(
        added,
        " times a rank has no expert in a layer, which this format cannot say: it got a "
        "replica"));
  }
  return result;
}

}  // namespace ballast
