// What balancing has learned, kept in a file so that a restart begins where the last run ended.
#pragma once

#include <string>
#include <vector>

#include "engine/moe/cost_model.h"
#include "engine/moe/placement.h"
#include "engine/status.h"

namespace ballast {

struct BalanceState {
  std::string fingerprint;                // of model, compute and ranks; another one's is of no use
  std::vector<LayerPlacement> placement;  // [layers] dense ones empty
  CostState costs;
};

// JSON. Parse: INVALID_ARGUMENT names the field, found and expected; shapes are the caller's to
// check.
std::string FormatBalanceState(const BalanceState& state);
absl::StatusOr<BalanceState> ParseBalanceState(const std::string& text);

// That Write can create its file. UNAVAILABLE names the file and the reason, also below.
absl::Status CheckBalanceStateIsWritable(const std::string& path);
// Replaces the file in one go: a crash leaves the old one or the new one.
absl::Status WriteBalanceState(const std::string& path, const BalanceState& state);
// NOT_FOUND: there is none yet.
absl::StatusOr<BalanceState> ReadBalanceState(const std::string& path);

}  // namespace ballast
