// The options of `serve` that make it one process of several.
#pragma once

#include <vector>

#include "engine/status.h"
#include "server/knobs.h"
#include "server/options.h"

namespace ballast {

void AddLaunchKnobs(ServeOptions& options, std::vector<Knob>& knobs);

// INVALID_ARGUMENT when those options contradict each other or --ranks.
absl::Status CheckLaunch(const ServeOptions& options);

}  // namespace ballast
