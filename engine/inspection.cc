#include "engine/inspection.h"

#include <utility>

#include "engine/prepare.h"
#include "engine/tokenizer/tokenizer.h"

namespace ballast {

absl::StatusOr<ModelInspection> InspectModel(const EngineOptions& options) {
  ASSIGN_OR_RETURN(PreparedModel model, PrepareModel(options));
  ModelInspection inspection;
  inspection.fits = CheckFits(model);
  inspection.info = std::move(model.info);
  inspection.plan = std::move(model.plan);
  if (inspection.info.limits.has_tokenizer) {
    const absl::Status tokenizer = Tokenizer::Load(options.model).status();
    if (!tokenizer.ok()) inspection.plan.unsupported.emplace_back(tokenizer.message());
  }
  inspection.kv_bytes = model.sizes.kv_bytes;
  inspection.threads = model.threads;
  inspection.warnings = std::move(model.warnings);
  return inspection;
}

}  // namespace ballast
