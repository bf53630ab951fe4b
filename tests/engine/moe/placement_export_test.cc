#include "engine/moe/placement_export.h"

#include <set>

#include "engine/moe/placement_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/balance_cases.h"

namespace ballast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr PlacementFormat kFormats[] = {PlacementFormat::kYaml, PlacementFormat::kTensorRtLlm,
                                        PlacementFormat::kSglang};

// A dense layer, then one of four experts on two ranks.
std::vector<LayerPlacement> TwoLayers(std::vector<int32_t> slots) {
  return {{2, 0, {}}, {2, static_cast<int>(slots.size()) / 2, std::move(slots)}};
}

std::vector<std::multiset<int>> HeldByRank(const LayerPlacement& placement) {
  std::vector<std::multiset<int>> held;
  for (int rank = 0; rank < placement.ranks; ++rank) {
    const std::vector<int> experts = ExpertsOfRank(placement, rank);
    held.emplace_back(experts.begin(), experts.end());
  }
  return held;
}

TEST(ExportPlacement, WritesItsOwnYaml) {
  EXPECT_EQ(ExportPlacement(TwoLayers({0, 1, -1, 2, 3, 1}), 4, PlacementFormat::kYaml).text,
            "ranks: 2\nslots_per_rank: 3\nlayers:\n  1:\n    - [0, 1, -1]\n    - [2, 3, 1]\n");
}

TEST(ExportPlacement, FillsEmptySlotsForTensorRtLlm) {
  EXPECT_EQ(ExportPlacement(TwoLayers({0, 1, -1, 2, 3, 1}), 4, PlacementFormat::kTensorRtLlm).text,
            "initial_global_assignments:\n  1: [0, 1, 0, 2, 3, 1]\nnum_slots: 6\n"
            "layer_updates_per_iter: 0\n");
}

TEST(ExportPlacement, GivesSglangTheDenseLayersToo) {
  EXPECT_EQ(ExportPlacement(TwoLayers({0, 1, -1, 2, 3, 1}), 4, PlacementFormat::kSglang).text,
            "{\"physical_to_logical_map\": [\n  [0, 1, 2, 3, 0, 1],\n  [0, 1, 0, 2, 3, 1]\n]}\n");
}

TEST(ExportPlacement, FillsUpLayersThatAreNarrowerThanOthers) {
  const std::vector<LayerPlacement> layers = {{2, 3, {0, 1, 3, 2, 3, 1}}, {2, 2, {0, 1, 2, 3}}};
  EXPECT_THAT(ExportPlacement(layers, 4, PlacementFormat::kSglang).text,
              HasSubstr("[0, 1, 0, 2, 3, 2]"));
}

TEST(ExportPlacement, WarnsOfARankWithoutExperts) {
  const auto layers = TwoLayers({0, 1, 2, 3, -1, -1, -1, -1});
  EXPECT_THAT(ExportPlacement(layers, 4, PlacementFormat::kYaml).warnings, IsEmpty());
  const PlacementText text = ExportPlacement(layers, 4, PlacementFormat::kSglang);
  EXPECT_THAT(text.text, HasSubstr("[0, 1, 2, 3, 0, 0, 0, 0]"));
  EXPECT_THAT(text.warnings, ElementsAre(HasSubstr("a rank has no expert")));
}

TEST(ExportPlacement, IsReadBackTheSame) {
  Random random(17);
  for (int round = 0; round < 300; ++round) {
    PlacementShape shape;
    shape.layers = random(1, 5);
    shape.experts = random(1, 12);
    shape.ranks = random(1, 6);
    const int slots = (shape.experts + shape.ranks - 1) / shape.ranks + random(0, 3);
    std::vector<LayerPlacement> layers(shape.layers, LayerPlacement{shape.ranks, 0, {}});
    for (int layer = 0; layer < shape.layers; ++layer) {
      if (layer + 1 < shape.layers && random(0, 2) == 0) continue;
      shape.moe_layers.push_back(layer);
      layers[layer] = RandomPlacement(
          {.ranks = shape.ranks, .experts = shape.experts, .slots_per_rank = slots}, random);
    }
    for (const PlacementFormat format : kFormats) {
      const PlacementText written = ExportPlacement(layers, shape.experts, format);
      const auto read = ParsePlacement(written.text, "f", shape);
      ASSERT_TRUE(read.ok()) << read.status() << "\n" << written.text;
      if (!written.warnings.empty()) continue;  // a rank without experts
      for (int layer = 0; layer < shape.layers; ++layer) {
        ASSERT_EQ(HeldByRank(read->layers[layer]), HeldByRank(layers[layer])) << written.text;
        if (format == PlacementFormat::kYaml) {
          ASSERT_EQ(read->layers[layer].slot_expert, layers[layer].slot_expert);
        }
      }
    }
  }
}

}  // namespace
}  // namespace ballast
