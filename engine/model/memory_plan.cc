#include "engine/model/memory_plan.h"

#include "engine/concat.h"
#include "engine/model/weight_arena.h"
#include "engine/model/weight_list.h"
#include "engine/model/workspace.h"

namespace ballast {
namespace {

// A hundred thousand missing tensors are one fact, not so many lines.
constexpr size_t kMaxComplaints = 10;

void CheckTensors(const Checkpoint& checkpoint, const std::vector<WeightSource>& list,
                  std::vector<std::string>& unsupported) {
  size_t complaints = 0;
  const std::string* previous = nullptr;
  for (const WeightSource& source : list) {
    if (previous != nullptr && *previous == source.tensor) continue;
    previous = &source.tensor;
    const auto tensor = checkpoint.Require(source.tensor, source.shape);
    if (tensor.ok()) continue;
    if (++complaints <= kMaxComplaints) unsupported.emplace_back(tensor.status().message());
  }
  if (complaints > kMaxComplaints) {
    unsupported.push_back(Concat("and ", complaints - kMaxComplaints, " more tensors"));
  }
}

int64_t CountParameters(const ModelConfig& config, const ExpertNames& names) {
  ModelWeights scratch;
  int64_t parameters = 0;
  for (const WeightSource& source : ListWeights(config, names, AllExperts(config), scratch)) {
    parameters += source.rows * source.cols;
  }
  return parameters;
}

}  // namespace

size_t KvBytesPerToken(const ModelConfig& config, const Device& device, Compute compute) {
  const KvCache cache = KvCacheShape(config, compute, /*blocks=*/1);
  return device.kv_bytes(cache) * static_cast<size_t>(config.layers) / kKvBlockTokens;
}

MemoryPlan PlanMemory(const ModelConfig& config, const Checkpoint* checkpoint,
                      const SlotExperts& slot_experts, const Device& device, Compute compute,
                      size_t workspace_bytes) {
  const Family* family = FindFamily(config.model_type);
  CHECK(family != nullptr);
  const ExpertNames& names = ChooseLayout(*family, config, checkpoint);
  MemoryPlan plan;
  plan.parameters = CountParameters(config, names);
  const int64_t expert = int64_t{3} * config.expert_intermediate * config.hidden;
  const int64_t idle = config.experts - config.experts_per_token;
  plan.active_parameters =
      plan.parameters - idle * expert * static_cast<int64_t>(MoeLayers(config).size());
  ModelWeights scratch;
  const std::vector<WeightSource> list = ListWeights(config, names, slot_experts, scratch);
  plan.weights_bytes = ArenaBytes(list, checkpoint, config.published_type, device, compute);
  plan.kv_bytes_per_token = KvBytesPerToken(config, device, compute);
  plan.workspace_bytes = workspace_bytes;
  plan.unsupported = config.unsupported;
  if (checkpoint != nullptr) CheckTensors(*checkpoint, list, plan.unsupported);
  return plan;
}

}  // namespace ballast
