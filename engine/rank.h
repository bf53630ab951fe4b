// A rank: a device, its weights, its KV cache and its share of every step. With one rank it runs on
// the engine's loop thread; with several each has a thread or a process of its own.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "engine/checkpoint/checkpoint.h"
#include "engine/model/attention.h"
#include "engine/model/weights.h"
#include "engine/model/workspace.h"
#include "engine/sampler.h"
#include "engine/status.h"
#include "engine/step.h"
#include "kernels/device.h"

namespace ballast {

struct RankOptions {
  int rank = 0;
  int threads = 1;
  Compute compute = Compute::kBF16;
  int64_t kv_blocks = 0;
  StepSizes sizes;
  SlotExperts slots;  // the experts this rank holds, per layer
};

// One thread at a time, but for heartbeat().
class Rank {
 public:
  // Loads the weights and allocates workspace and KV cache. RESOURCE_EXHAUSTED when memory ends.
  // `config`, `checkpoint` and `device` outlive the rank.
  static absl::StatusOr<std::unique_ptr<Rank>> Create(
      const Checkpoint& checkpoint, const Device& device, const RankOptions& options,
      const std::function<void(size_t done, size_t total)>& progress);
  ~Rank();

  // Runs options.rank's share of the plan. Nothing on the device is allocated.
  void RunStep(const StepPlan& plan, RankResult& result);

  // Grows with every layer of every step: a step that lives, however long it takes.
  uint64_t heartbeat() const { return heartbeat_.load(std::memory_order_relaxed); }

 private:
  Rank(const ModelConfig& config, const Device& device, const RankOptions& options);
  absl::Status AllocateBuffers();
  AttentionInputs Upload(const RankBatch& batch);
  void RunLayers(const RankBatch& batch, const AttentionInputs& inputs, RankResult& result);
  void SampleRows(const RankBatch& batch, RankResult& result);

  const ModelConfig& config_;
  const Device& device_;
  const RankOptions options_;
  Stream stream_;
  std::unique_ptr<ModelWeights> weights_;
  RopeFrequencies rope_;
  Workspace buffers_;
  std::vector<KvCache> kv_;                           // [layers]
  std::vector<std::vector<int32_t>> slot_of_expert_;  // [layers][experts]
  MoeScratch moe_;
  std::vector<MatmulGroup> groups_;
  std::vector<float> cos_sin_;
  std::vector<int32_t> logit_rows_;
  std::vector<float> logits_;
  SampleScratch sample_scratch_;
  std::atomic<uint64_t> heartbeat_{0};
};

}  // namespace ballast
