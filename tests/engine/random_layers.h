// Random legal placements of a whole model.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "engine/moe/placement_export.h"
#include "gtest/gtest.h"
#include "tests/support/run_engine.h"
#include "tools/balance_cases.h"

namespace ballast::test {

// `layers` of any legal shape, as a file that an engine reads.
inline std::string PlacementFile(const std::vector<LayerPlacement>& layers, int experts) {
  std::string path = testing::TempDir() + "ballast_placement_XXXXXX";
  const int file = mkstemp(path.data());
  EXPECT_GE(file, 0);
  close(file);
  std::ofstream(path) << ExportPlacement(layers, experts, PlacementFormat::kYaml).text;
  return path;
}

inline LayerShape RandomShape(const ModelConfig& config, int ranks, ballast::Random& random) {
  const int fewest = (config.experts + ranks - 1) / ranks;
  return {.ranks = ranks, .experts = config.experts, .slots_per_rank = fewest + random(1, 3)};
}

inline std::vector<LayerPlacement> RandomLayers(const ModelConfig& config, const LayerShape& shape,
                                                ballast::Random& random) {
  std::vector<LayerPlacement> layers(config.layers, LayerPlacement{shape.ranks, 0, {}});
  for (const int layer : MoeLayers(config)) layers[layer] = RandomPlacement(shape, random);
  return layers;
}

}  // namespace ballast::test
