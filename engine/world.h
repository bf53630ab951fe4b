// The ranks of a model as their leader drives them, wherever they run: threads of this process
// (ranks.h) or processes.
#pragma once

#include <cstdint>

#include "engine/moe/slot_moves.h"
#include "engine/status.h"
#include "engine/step.h"

namespace ballast {

class World {
 public:
  virtual ~World() = default;

  virtual int size() const = 0;

  // Runs a step on all ranks and waits for them; placement changes of the plan take force first.
  // An error of any rank is returned; no further step can run then. One thread at a time.
  virtual absl::Status RunStep(const StepPlan& plan, StepResult& result) = 0;

  // Copies an expert's packed weights into a spare buffer of rank `to`, where they wait for the
  // LayerChange that names them. Blocks until they are there. One thread at a time, beside RunStep.
  // RESOURCE_EXHAUSTED: no spare buffer is free (each rank has as many as slots in a layer).
  virtual absl::Status Move(const SlotMove& move) = 0;

  // Gives back the spare buffers that wait for a change. The same thread as Move.
  virtual absl::Status DropMoves() = 0;

  // Grows while a step lives; any thread.
  virtual uint64_t heartbeat() const = 0;

  // Why no step can run any more, UNAVAILABLE: a rank is lost, in a step or between two. Any
  // thread.
  virtual absl::Status failure() const { return absl::OkStatus(); }
};

}  // namespace ballast
