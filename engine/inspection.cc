#include "engine/inspection.h"

#include <utility>

#include "engine/prepare.h"

namespace ballast {

absl::StatusOr<ModelInspection> InspectModel(const EngineOptions& options) {
  ASSIGN_OR_RETURN(PreparedModel model, PrepareModel(options));
  ModelInspection inspection;
  inspection.fits = CheckFits(model);
  inspection.info = std::move(model.info);
  inspection.plan = std::move(model.plan);
  inspection.kv_bytes = model.sizes.kv_bytes;
  inspection.threads = model.threads;
  inspection.warnings = std::move(model.warnings);
  return inspection;
}

}  // namespace ballast
