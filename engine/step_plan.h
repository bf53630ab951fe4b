// From schedules to the plain arrays that ranks run.
#pragma once

#include <cstdint>
#include <span>

#include "engine/scheduler.h"
#include "engine/step.h"

namespace ballast {

// Fills plan.ranks, one per schedule; its vectors keep their capacity. Samples of a sequence stand
// in row order, those of prompt log-probabilities (target >= 0) before the one that draws. Block
// tables must cover the scheduled rows (ApplySchedule). Pure.
void BuildStepPlan(std::span<const Schedule> schedules, std::span<const int32_t> eos_token_ids,
                   StepPlan& plan);

}  // namespace ballast
