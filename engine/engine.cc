#include "engine/engine.h"

#include <utility>

#include "engine/engine_loop.h"
#include "engine/prepare.h"
#include "engine/ranks.h"

namespace ballast {
namespace {

// The first step of a process is slow (pages, caches): it must not be a client's.
absl::Status WarmUp(World& world) {
  StepPlan plan;
  for (int rank = 0; rank < world.size(); ++rank) {
    RankBatch& batch = plan.ranks.emplace_back();
    batch.tokens = {0};
    batch.positions = {0};
    batch.kv_slots = {0};
    batch.spans = {{0, 1, 0, 0}};
    batch.block_tables = {0};
    SampleRow sample;
    sample.position = 1;
    sample.temperature = 0;
    batch.samples = {sample};
  }
  StepResult result;
  return world.RunStep(plan, result);
}

absl::StatusOr<std::unique_ptr<World>> MakeWorld(
    const EngineOptions& options, const PreparedModel& model, const Checkpoint& checkpoint,
    const std::function<void(size_t done, size_t total)>& progress) {
  RanksParts parts;
  parts.checkpoint = &checkpoint;
  parts.device = model.device;
  parts.options.ranks = options.ranks;
  parts.options.threads = model.threads;
  parts.options.compute = model.sizes.compute;
  parts.options.kv_blocks = model.sizes.kv_blocks;
  parts.options.sizes = model.sizes.step;
  parts.options.slowdown = options.test_slowdown;
  parts.slow_rank = options.test_slow_rank;
  parts.comms = ThreadCommunicators(options.ranks);
  parts.placement = model.placement;
  return Ranks::Create(std::move(parts), progress);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    const EngineOptions& options, EngineEvents events,
    std::function<void(size_t done, size_t total)> progress) {
  ASSIGN_OR_RETURN(PreparedModel model, PrepareModel(options));
  RETURN_IF_ERROR(model.checkpoint.status());
  RETURN_IF_ERROR(CheckFits(model));

  EngineParts parts;
  parts.checkpoint = *std::move(model.checkpoint);
  if (model.info.limits.has_tokenizer) {
    ASSIGN_OR_RETURN(parts.tokenizer, Tokenizer::Load(options.model));
  }
  ASSIGN_OR_RETURN(parts.world, MakeWorld(options, model, *parts.checkpoint, progress));
  RETURN_IF_ERROR(WarmUp(*parts.world));

  parts.info = std::move(model.info);
  parts.budget = {options.step_tokens, options.max_running};
  parts.kv_blocks = static_cast<int32_t>(model.sizes.kv_blocks);
  parts.max_waiting = options.max_waiting;
  parts.max_waiting_tokens = options.max_waiting_tokens;
  return std::make_unique<EngineLoop>(std::move(parts), std::move(events));
}

}  // namespace ballast
