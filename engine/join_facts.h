// What ranks that compute together must have alike, so that all come to the same bits.
#pragma once

#include <string>
#include <vector>

#include "engine/options.h"
#include "engine/status.h"

namespace ballast {

struct JoinFact {
  std::string name;
  std::string value;
};

// Of the checkpoint (its fingerprint), the processor (kernel set, how it packs weights) and the
// options that size a step or change its arithmetic. Where experts stand is not among them: the
// leader says so. Errors are those of reading the checkpoint and resolving the options.
absl::StatusOr<std::vector<JoinFact>> ReadJoinFacts(const EngineOptions& options);

}  // namespace ballast
