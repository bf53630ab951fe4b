#include "engine/inspection.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/weight_list.h"
#include "engine/sizing.h"
#include "kernels/cpu/cpu_device.h"

namespace ballast {
namespace {

std::string ServedName(const EngineOptions& options) {
  if (!options.served_model_name.empty()) return options.served_model_name;
  std::error_code error;
  const std::filesystem::path path =
      std::filesystem::absolute(options.model, error).lexically_normal();
  return path.has_filename() ? path.filename() : path.parent_path().filename();
}

}  // namespace

absl::StatusOr<ModelInspection> InspectModel(const EngineOptions& options) {
  const Device* device = FindCpuDevice(options.kernels);
  if (device == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--kernels: found '", options.kernels, "', this processor runs auto, ", CpuKernelSets()));
  }
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(options.model));
  absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::Open(options.model);
  if (!checkpoint.ok() && !absl::IsUnimplemented(checkpoint.status())) return checkpoint.status();
  const Checkpoint* tensors = checkpoint.ok() ? checkpoint->get() : nullptr;

  ASSIGN_OR_RETURN(const Compute compute, ParseCompute(options.compute));
  ASSIGN_OR_RETURN(const EngineSizes sizes,
                   ResolveSizes(options, config, KvBlockBytes(config, compute, *device)));
  const size_t workspace = PlanWorkspace(config, compute, sizes.step, nullptr).bytes;

  ModelInspection model;
  model.plan = PlanMemory(config, tensors, AllExperts(config), *device, compute, workspace);
  model.kv_bytes = sizes.kv_bytes;
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  model.threads = options.threads > 0 ? options.threads : cores;
  model.fits = CheckFits(model.plan.weights_bytes, sizes.kv_bytes, workspace, AvailableMemory());
  model.info.name = ServedName(options);
  model.info.config = config;
  if (tensors != nullptr) model.info.defaults = tensors->generation_defaults();
  model.info.parameters = model.plan.parameters;
  model.info.active_parameters = model.plan.active_parameters;
  model.info.max_context = sizes.max_context;
  model.info.compute = options.compute;
  model.info.weights = options.weights;
  model.info.kernels = device->kernels;
  std::error_code error;
  const bool has_tokenizer =
      std::filesystem::exists(std::filesystem::path(options.model) / "tokenizer.json", error);
  model.info.limits = {config.vocab_size, sizes.max_context, sizes.kv_blocks * kKvBlockTokens,
                       has_tokenizer};
  return model;
}

}  // namespace ballast
