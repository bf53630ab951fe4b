#include "engine/engine.h"

#include <utility>

#include "engine/engine_loop.h"
#include "engine/prepare.h"

namespace ballast {
namespace {

// The first step of a process is slow (pages, caches): it must not be a client's.
absl::Status WarmUp(Ranks& ranks) {
  StepPlan plan;
  for (int rank = 0; rank < ranks.size(); ++rank) {
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
  return ranks.RunStep(plan, result);
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
  const RankOptions rank_options{0, model.threads, model.sizes.compute, model.sizes.kv_blocks,
                                 model.sizes.step};
  ASSIGN_OR_RETURN(parts.ranks,
                   Ranks::Create(*parts.checkpoint, *model.device, options.ranks, rank_options,
                                 model.placement, CostParameters{}, progress));
  RETURN_IF_ERROR(WarmUp(*parts.ranks));

  parts.info = std::move(model.info);
  parts.budget = {options.step_tokens, options.max_running};
  parts.kv_blocks = static_cast<int32_t>(model.sizes.kv_blocks);
  parts.max_waiting = options.max_waiting;
  parts.max_waiting_tokens = options.max_waiting_tokens;
  return std::make_unique<EngineLoop>(std::move(parts), std::move(events));
}

}  // namespace ballast
