// What the ranks of a prepared model have in common, wherever they run.
#pragma once

#include "engine/checkpoint/checkpoint.h"
#include "engine/prepare.h"
#include "engine/ranks.h"

namespace ballast {

// All but comms, first, node and what tests ask for. `checkpoint` is the model's own, which may
// have been moved out of it.
RanksParts PartsOf(const PreparedModel& model, const Checkpoint& checkpoint);

}  // namespace ballast
