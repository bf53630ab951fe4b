#include "engine/engine.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/engine_loop.h"
#include "engine/gpu_ranks.h"
#include "engine/moe/expert_loans.h"
#include "engine/prepare.h"
#include "engine/process_world.h"
#include "engine/rank_parts.h"
#include "engine/ranks.h"

namespace ballast {
namespace {

// How long NCCL may take to join the GPUs of this machine.
constexpr std::chrono::minutes kGpusMeetLimit(2);

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

// Labels to numbers: equal labels, equal numbers.
std::vector<int32_t> NodeNumbers(const std::vector<std::string>& labels) {
  std::vector<int32_t> numbers;
  for (const std::string& label : labels) {
    numbers.push_back(
        static_cast<int32_t>(std::find(labels.begin(), labels.end(), label) - labels.begin()));
  }
  return numbers;
}

// What a learned placement and costs are good for.
std::string Fingerprint(const EngineOptions& options, const PreparedModel& model) {
  const ModelConfig& config = model.info.config;
  int slots = 0;
  for (const LayerPlacement& layer : model.placement) slots = std::max(slots, layer.slots_per_rank);
  return absl::StrCat(config.model_type, " ", config.layers, "x", config.experts, " experts of ",
                      config.hidden, "x", config.expert_intermediate, ", ", model.info.parameters,
                      " parameters, ", options.compute, " ", model.info.kernels, ", ",
                      options.ranks, " ranks of ", slots, " slots, ", model.threads, " threads");
}

// Begins where an earlier run ended, when its state fits; else says why not.
std::optional<CostState> RestoreState(const EngineOptions& options, const std::string& fingerprint,
                                      const EngineEvents& events, PreparedModel& model) {
  const auto warn = [&](const char* what, const std::string& why) {
    if (events.on_notice) {
      events.on_notice(true, absl::StrCat("balance state ", options.balance_state, what, why));
    }
  };
  const auto ignore = [&](const std::string& why) {
    warn(" ignored: ", why);
    return std::nullopt;
  };
  if (options.balance_state.empty()) return std::nullopt;
  const absl::Status writable = CheckBalanceStateIsWritable(options.balance_state);
  if (!writable.ok()) warn(" will not be kept: ", std::string(writable.message()));
  absl::StatusOr<BalanceState> state = ReadBalanceState(options.balance_state);
  if (absl::IsNotFound(state.status())) return std::nullopt;
  if (!state.ok()) return ignore(std::string(state.status().message()));
  if (state->fingerprint != fingerprint) {
    return ignore(
        absl::StrCat("found \"", state->fingerprint, "\", expected \"", fingerprint, "\""));
  }
  const ModelConfig& config = model.info.config;
  state->placement.resize(static_cast<size_t>(config.layers));
  for (const int layer : MoeLayers(config)) {
    const LayerPlacement& placement = state->placement[static_cast<size_t>(layer)];
    const absl::Status valid = ValidatePlacement(placement, layer, config.experts, options.ranks);
    if (!valid.ok()) return ignore(std::string(valid.message()));
    if (placement.slots_per_rank != model.placement[static_cast<size_t>(layer)].slots_per_rank) {
      return ignore(absl::StrCat("layer ", layer, ": found ", placement.slots_per_rank,
                                 " slots per rank, expected ",
                                 model.placement[static_cast<size_t>(layer)].slots_per_rank));
    }
  }
  // A placement that the operator gives is not overruled.
  if (options.placement.empty()) {
    for (const int layer : MoeLayers(config)) {
      model.placement[static_cast<size_t>(layer)] = state->placement[static_cast<size_t>(layer)];
    }
  }
  return std::move(state->costs);
}

BalancerOptions BalancerOf(const EngineOptions& options, int64_t expert_bytes) {
  // A bound on what a move costs those who wait: its bytes at 1 GB/s, in nanoseconds.
  constexpr double kMoveNanosecondsPerByte = 1;
  constexpr int64_t kLendNanosecondsPerByte = 1;  // likewise
  BalancerOptions balancer;
  balancer.mode = options.balance;
  const bool assigns = options.balance == "assign";
  const bool plain = options.balance == "off" || options.balance == "observe";
  balancer.costs.mode = plain     ? BalanceMode::kOff
                        : assigns ? BalanceMode::kAssign
                                  : BalanceMode::kSpill;
  balancer.costs.max_imports = kMaxImports;
  if (options.machine_ranks > 0 || options.device == "cuda") {
    // In one process weights are read where they lie; between processes both ends are busy with
    // them, and a rank waits for what does not travel while rows are dispatched.
    const auto cost =
        static_cast<int32_t>(std::min<int64_t>(expert_bytes * kLendNanosecondsPerByte, INT32_MAX));
    balancer.costs.import_cost = cost;
    balancer.costs.export_cost = cost;
  }
  balancer.costs.force_spills = options.test_force_spills;
  balancer.replan_interval = options.replan_interval;
  balancer.move_bytes_per_second = options.move_bytes_per_second;
  balancer.replan.move_cost = kMoveNanosecondsPerByte * static_cast<double>(expert_bytes);
  balancer.replan.node = NodeNumbers(options.node_labels);
  balancer.state_file = options.balance_state;
  return balancer;
}

absl::StatusOr<std::unique_ptr<World>> MakeWorld(
    const EngineOptions& options, const PreparedModel& model, const Checkpoint& checkpoint,
    const std::function<void(size_t done, size_t total)>& progress, const ProcessGroup* group) {
  RanksParts parts = PartsOf(model, checkpoint);
  parts.options.slowdown = options.test_slowdown;
  parts.slow_rank = options.test_slow_rank;
  parts.node = NodeNumbers(options.node_labels);
  if (group != nullptr) return ProcessWorld::Create(*group, std::move(parts), progress);
  if (model.device->units() > 0 && options.ranks > 1) {
    ASSIGN_OR_RETURN(GpuLinks links, ConnectGpus(*model.device, options.ranks, kGpusMeetLimit));
    parts.comms = std::move(links.rows);
    parts.weights = std::move(links.weights);
  } else {
    parts.comms = ThreadCommunicators(options.ranks);
  }
  return Ranks::Create(std::move(parts), progress);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    const EngineOptions& options, EngineEvents events,
    std::function<void(size_t done, size_t total)> progress, const ProcessGroup* group) {
  ASSIGN_OR_RETURN(PreparedModel model, PrepareModel(options));
  RETURN_IF_ERROR(model.checkpoint.status());
  RETURN_IF_ERROR(CheckFits(model));

  EngineParts parts;
  parts.checkpoint = *std::move(model.checkpoint);
  if (model.info.limits.has_tokenizer) {
    ASSIGN_OR_RETURN(parts.tokenizer, Tokenizer::Load(options.model));
  }
  if (!options.node_labels.empty() &&
      options.node_labels.size() != static_cast<size_t>(options.ranks)) {
    return absl::InvalidArgumentError(absl::StrCat("--node-labels: found ",
                                                   options.node_labels.size(), " labels, expected ",
                                                   options.ranks, ", one per rank"));
  }
  const ModelConfig& config = model.info.config;
  const auto expert_bytes = static_cast<int64_t>(
      LargestExpert(config, parts.checkpoint.get(), *model.device, model.sizes.compute).sum());
  parts.balancer = BalancerOf(options, expert_bytes);
  parts.balancer.fingerprint = Fingerprint(options, model);
  parts.balancer.learned = RestoreState(options, parts.balancer.fingerprint, events, model);
  parts.balanced = {config.experts, MoeLayers(config), model.placement, expert_bytes};
  ASSIGN_OR_RETURN(parts.world, MakeWorld(options, model, *parts.checkpoint, progress, group));
  RETURN_IF_ERROR(WarmUp(*parts.world));

  parts.info = std::move(model.info);
  parts.budget = {options.step_tokens, options.max_running};
  parts.kv_blocks = static_cast<int32_t>(model.sizes.kv_blocks);
  parts.max_waiting = options.max_waiting;
  parts.max_waiting_tokens = options.max_waiting_tokens;
  return std::make_unique<EngineLoop>(std::move(parts), std::move(events));
}

}  // namespace ballast
