#include "engine/initial_placement.h"

#include <utility>

#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/mapped_file.h"
#include "engine/moe/document.h"

namespace ballast {

absl::StatusOr<ModelPlacement> InitialPlacement(const EngineOptions& options,
                                                const ModelConfig& config) {
  const PlacementShape shape{config.layers, MoeLayers(config), config.experts, options.ranks,
                             options.slots_per_rank};
  if (options.placement.empty()) return EvenModelPlacement(shape);
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(options.placement, kMaxJsonBytes));
  return ParsePlacement(text, options.placement, shape);
}

absl::StatusOr<PlacementText> ExportInitialPlacement(const EngineOptions& options,
                                                     PlacementFormat format) {
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(options.model));
  ASSIGN_OR_RETURN(ModelPlacement placement, InitialPlacement(options, config));
  PlacementText text = ExportPlacement(placement.layers, config.experts, format);
  text.warnings.insert(text.warnings.begin(), placement.warnings.begin(), placement.warnings.end());
  return text;
}

}  // namespace ballast
