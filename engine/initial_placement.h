// Where a model's experts stand when serving begins, as the options say.
#pragma once

#include "engine/model/config.h"
#include "engine/moe/placement_export.h"
#include "engine/moe/placement_file.h"
#include "engine/options.h"
#include "engine/status.h"

namespace ballast {

// Reads options.placement, or places evenly when there is none. Errors are those of ParsePlacement,
// and NOT_FOUND when there is no such file. Any thread.
absl::StatusOr<ModelPlacement> InitialPlacement(const EngineOptions& options,
                                                const ModelConfig& config);

// The same as a file of `format`; of the folder options.model only config.json is read. Warnings
// are those of reading and of writing.
absl::StatusOr<PlacementText> ExportInitialPlacement(const EngineOptions& options,
                                                     PlacementFormat format);

}  // namespace ballast
