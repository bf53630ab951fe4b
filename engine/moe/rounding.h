// Whole experts and whole tiles instead of divisible demands: the heuristic for costs with a floor.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/cost_parameters.h"
#include "engine/moe/replicas.h"

namespace ballast {

struct RoundingScratch {
  std::vector<int64_t> load;  // [ranks]
  std::vector<int64_t> cap;   // [ranks]
  std::vector<int64_t> best;  // [slots]
};

}  // namespace ballast
