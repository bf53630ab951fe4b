// The weights of MoE layers, packed for the rank's device. Views; model/weights.h owns.
#pragma once

#include <vector>

#include "kernels/device.h"

namespace ballast {

struct MoeWeights {
  PackedMatrix router;                 // [experts, hidden], published precision in every compute
  const float* router_bias = nullptr;  // [experts]; null: none
  std::vector<MlpWeights> slots;       // the experts this rank holds, by slot
  MlpWeights shared;                   // gate.data is null: none
};

}  // namespace ballast
