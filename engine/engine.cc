#include "engine/engine.h"

#include <algorithm>
#include <filesystem>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/engine_loop.h"
#include "engine/model/memory_plan.h"
#include "engine/moe/placement.h"
#include "engine/sizing.h"
#include "kernels/cpu/cpu_device.h"

namespace ballast {
namespace {

absl::StatusOr<const Device*> FindDevice(const EngineOptions& options) {
  if (options.device != "cpu") {
    return absl::InvalidArgumentError(
        absl::StrCat("--device: found \"", options.device, "\", this build has cpu"));
  }
  const Device* device = FindCpuDevice(options.kernels);
  if (device == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--kernels: found \"", options.kernels, "\", this processor runs auto, ", CpuKernelSets()));
  }
  return device;
}

std::string ServedName(const EngineOptions& options) {
  if (!options.served_model_name.empty()) return options.served_model_name;
  const std::filesystem::path path = std::filesystem::path(options.model).lexically_normal();
  return path.has_filename() ? path.filename() : path.parent_path().filename();
}

// The experts of one rank's slots under the even placement.
SlotExperts SlotsOfRank(const ModelConfig& config, int rank) {
  const LayerPlacement placement = EvenPlacement(config.experts, /*ranks=*/1);
  SlotExperts slots(config.layers);
  for (const int layer : MoeLayers(config)) slots[layer] = ExpertsOfRank(placement, rank);
  return slots;
}

// The first step of a process is slow (pages, caches): it must not be a client's.
void WarmUp(Rank& rank) {
  StepPlan plan;
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
  RankResult result;
  rank.RunStep(plan, result);
}

ModelInfo DescribeModel(const EngineOptions& options, const Checkpoint& checkpoint,
                        const Device& device, const MemoryPlan& plan, const EngineSizes& sizes,
                        bool has_tokenizer) {
  ModelInfo info;
  info.name = ServedName(options);
  info.config = checkpoint.config();
  info.defaults = checkpoint.generation_defaults();
  info.parameters = plan.parameters;
  info.active_parameters = plan.active_parameters;
  info.max_context = sizes.max_context;
  info.compute = options.compute;
  info.weights = options.weights;
  info.kernels = device.kernels;
  info.limits = {info.config.vocab_size, sizes.max_context, sizes.kv_blocks * kKvBlockTokens,
                 has_tokenizer};
  return info;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    const EngineOptions& options, EngineEvents events,
    std::function<void(size_t done, size_t total)> progress) {
  ASSIGN_OR_RETURN(const Device* device, FindDevice(options));
  ASSIGN_OR_RETURN(const Compute compute, ParseCompute(options.compute));
  EngineParts parts;
  ASSIGN_OR_RETURN(parts.checkpoint, Checkpoint::Open(options.model));
  const ModelConfig& config = parts.checkpoint->config();

  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(options.model);
  if (tokenizer.ok()) {
    parts.tokenizer = *std::move(tokenizer);
  } else if (!absl::IsNotFound(tokenizer.status())) {
    return tokenizer.status();
  }

  ASSIGN_OR_RETURN(const EngineSizes sizes,
                   ResolveSizes(options, config, KvBlockBytes(config, compute, *device)));
  const size_t workspace = PlanWorkspace(config, compute, sizes.step, nullptr).bytes;
  const SlotExperts slots = SlotsOfRank(config, 0);
  const MemoryPlan plan =
      PlanMemory(config, parts.checkpoint.get(), slots, *device, compute, workspace);
  RETURN_IF_ERROR(CheckFits(plan.weights_bytes, sizes.kv_bytes, workspace, AvailableMemory()));

  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const RankOptions rank_options{0,          options.threads > 0 ? options.threads : cores,
                                 compute,    sizes.kv_blocks,
                                 sizes.step, slots};
  ASSIGN_OR_RETURN(parts.rank, Rank::Create(*parts.checkpoint, *device, rank_options, progress));
  WarmUp(*parts.rank);

  parts.info =
      DescribeModel(options, *parts.checkpoint, *device, plan, sizes, parts.tokenizer != nullptr);
  parts.budget = {options.step_tokens, options.max_running};
  parts.kv_blocks = static_cast<int32_t>(sizes.kv_blocks);
  parts.max_waiting = options.max_waiting;
  parts.max_waiting_tokens = options.max_waiting_tokens;
  return std::make_unique<EngineLoop>(std::move(parts), std::move(events));
}

}  // namespace ballast
