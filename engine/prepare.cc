#include "engine/prepare.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/initial_placement.h"
#include "engine/model/expert_store.h"
#include "engine/model/workspace.h"
#include "engine/moe/expert_loans.h"
#include "engine/unit.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cuda/cuda_device.h"

namespace ballast {
namespace {

// Ranks of this machine, in this process or in several.
int RanksHere(const EngineOptions& options) {
  return options.machine_ranks > 0 ? options.machine_ranks : options.ranks;
}

// "2 x A; 1 x B", of the first `count`.
std::string DescribeGpus(const std::vector<std::string>& gpus, int count) {
  std::vector<std::string> kinds;
  const auto end = gpus.begin() + std::min<ptrdiff_t>(count, std::ssize(gpus));
  for (auto gpu = gpus.begin(); gpu != end;) {
    const auto next =
        std::find_if(gpu, end, [&](const std::string& other) { return other != *gpu; });
    kinds.push_back(absl::StrCat(next - gpu, " x ", *gpu));
    gpu = next;
  }
  return absl::StrJoin(kinds, "; ");
}

// What a GPU needs besides weights, cache and workspace: its streams keep attention's partial sums
// (35 MB where heads share a latent), graphs and their lists (kernels/cuda/pieces.h); rows are sent
// from one buffer and received into two (comm/nccl.h). What NCCL takes for itself comes on top.
size_t GpuExtraBytes(const ModelConfig& config, const StepSizes& step, int ranks) {
  constexpr size_t kStreamBytes = size_t{136} << 20;
  const int64_t rows = ranks == 1 ? 0 : step.rows * config.experts_per_token;
  return kStreamBytes + 3 * static_cast<size_t>(rows * config.hidden) * sizeof(float);
}

absl::StatusOr<const Device*> FindGpuDevice(const EngineOptions& options) {
  const GpuSearch& search = FindGpus();
  if (search.device == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("--device cuda: ", search.problem));
  }
  if (options.kernels != "auto") {
    return absl::InvalidArgumentError(absl::StrCat("--kernels: found \"", options.kernels,
                                                   "\" with --device cuda, expected auto"));
  }
  const auto gpus = static_cast<int>(search.gpus.size());
  const int ranks = RanksHere(options);
  // A process may see its own GPU alone (CUDA_VISIBLE_DEVICES of its rank).
  const bool sees_its_own = options.machine_ranks > 0 && gpus == 1;
  if (ranks > gpus && !sees_its_own) {
    return absl::InvalidArgumentError(
        absl::StrCat("--ranks: found ", ranks, " on this machine, expected at most ", gpus,
                     ", one for each GPU (GPU 0: ", search.gpus[0], ")"));
  }
  return search.device;
}

absl::StatusOr<const Device*> FindDevice(const EngineOptions& options) {
  if (options.device == "cuda") return FindGpuDevice(options);
  if (options.device != "cpu") {
    return absl::InvalidArgumentError(
        absl::StrCat("--device: found \"", options.device, "\", expected cpu or cuda"));
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
  std::error_code error;
  const std::filesystem::path path =
      std::filesystem::absolute(options.model, error).lexically_normal();
  return path.has_filename() ? path.filename() : path.parent_path().filename();
}

SlotExperts SlotsOfRank(const ModelConfig& config, const std::vector<LayerPlacement>& placement,
                        int rank) {
  SlotExperts slots(config.layers);
  for (const int layer : MoeLayers(config)) slots[layer] = ExpertsOfRank(placement[layer], rank);
  return slots;
}

}  // namespace

absl::StatusOr<PreparedModel> PrepareModel(const EngineOptions& options) {
  PreparedModel model;
  ASSIGN_OR_RETURN(model.device, FindDevice(options));
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(options.model));
  model.checkpoint = Checkpoint::Open(options.model);
  if (!model.checkpoint.ok() && !absl::IsUnimplemented(model.checkpoint.status())) {
    return model.checkpoint.status();
  }
  const Checkpoint* tensors = model.checkpoint.ok() ? model.checkpoint->get() : nullptr;

  ASSIGN_OR_RETURN(const Compute compute, ParseCompute(options.compute));
  ASSIGN_OR_RETURN(model.sizes,
                   ResolveSizes(options, config, KvBlockBytes(config, compute, *model.device)));
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const bool processes = options.machine_ranks > 0;
  model.process_ranks = processes ? 1 : options.ranks;
  const int sharers = processes ? options.machine_ranks : options.ranks;
  model.threads = options.threads > 0 ? options.threads : std::max(1, cores / sharers);
  ASSIGN_OR_RETURN(ModelPlacement placement, InitialPlacement(options, config));
  model.placement = std::move(placement.layers);
  model.warnings = std::move(placement.warnings);
  const SlotExperts slots = SlotsOfRank(config, model.placement, 0);
  model.plan = PlanMemory(config, tensors, slots, *model.device, compute,
                          PlanWorkspace(config, compute, model.sizes.step, nullptr).bytes);
  if (model.device->units() > 0) {
    model.plan.workspace_bytes += GpuExtraBytes(config, model.sizes.step, options.ranks);
  }
  // With a spare buffer for each empty slot all ranks take the same.
  const bool lends = processes || (model.device->units() > 0 && options.ranks > 1);
  const int borrowed = lends ? kMaxImports : 0;
  model.plan.weights_bytes += static_cast<size_t>(SpareBuffers(slots, options.ranks) + borrowed) *
                              LargestExpert(config, tensors, *model.device, compute).sum();

  std::error_code error;
  const bool has_tokenizer =
      std::filesystem::exists(std::filesystem::path(options.model) / "tokenizer.json", error);
  ModelInfo& info = model.info;
  info.name = ServedName(options);
  info.config = config;
  if (tensors != nullptr) info.defaults = tensors->generation_defaults();
  info.parameters = model.plan.parameters;
  info.active_parameters = model.plan.active_parameters;
  info.max_context = model.sizes.max_context;
  info.compute = options.compute;
  info.weights = options.weights;
  info.kernels = model.device->kernels;
  if (model.device->units() > 0) info.gpus = DescribeGpus(FindGpus().gpus, RanksHere(options));
  info.ranks = options.ranks;
  info.limits = {config.vocab_size, model.sizes.max_context, model.sizes.kv_blocks * kKvBlockTokens,
                 has_tokenizer};
  return model;
}

absl::Status CheckFits(const PreparedModel& model, int first_rank) {
  const auto check = [&](int ranks, int unit, const std::string& where) {
    const auto times = static_cast<size_t>(ranks);
    return CheckFits(times * model.plan.weights_bytes, times * model.sizes.kv_bytes,
                     times * model.plan.workspace_bytes, model.device->available_memory(unit),
                     where);
  };
  if (model.device->units() == 0) return check(model.process_ranks, 0, "memory");
  for (int i = 0; i < model.process_ranks; ++i) {
    const int unit = UnitOfRank(*model.device, first_rank + i);
    RETURN_IF_ERROR(check(1, unit, absl::StrCat("the memory of GPU ", unit)));
  }
  return absl::OkStatus();
}

}  // namespace ballast
