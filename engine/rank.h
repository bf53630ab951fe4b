// A rank: a device, its weights, its KV cache and its share of every step.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/checkpoint/checkpoint.h"
#include "engine/comm/communicator.h"
#include "engine/comm/weight_exchange.h"
#include "engine/model/attention.h"
#include "engine/model/expert_store.h"
#include "engine/model/weights.h"
#include "engine/model/workspace.h"
#include "engine/moe/expert_loans.h"
#include "engine/moe/replicas.h"
#include "engine/sampler.h"
#include "engine/status.h"
#include "engine/step.h"
#include "kernels/device.h"

namespace ballast {

struct RankOptions {
  int rank = 0;  // of `ranks` in the world
  int ranks = 1;
  int unit = 0;  // of the device
  int threads = 1;
  Compute compute = Compute::kBF16;
  int64_t kv_blocks = 0;
  StepSizes sizes;
  double slowdown = 1;  // for tests: experts take so many times as long
};

// What all ranks know alike of where experts stand and what their work costs.
struct Balance {
  std::vector<Replicas> layers;  // [layers]; dense layers have none
  CostParameters costs;
};

// One thread at a time, but for heartbeat().
class Rank {
 public:
  // Loads the weights of its slots in `placement` [layers] and allocates workspace and KV cache.
  // RESOURCE_EXHAUSTED when memory ends.
  // `checkpoint`, `device`, `balance` and `comm` outlive the rank.
  static absl::StatusOr<std::unique_ptr<Rank>> Create(
      const Checkpoint& checkpoint, const Device& device, const RankOptions& options,
      const std::vector<LayerPlacement>& placement, const Balance& balance, Communicator& comm,
      const std::function<void(size_t done, size_t total)>& progress);
  ~Rank();

  // Lets the rank read the weights of the others' slots where they lie. `ranks` are those whose
  // memory it can read, itself included; before the first step.
  void Connect(std::span<const std::unique_ptr<Rank>> ranks);

  // Lets the rank lend experts to all others and borrow theirs, before the first step.
  // RESOURCE_EXHAUSTED when memory ends. `exchange` outlives the rank.
  absl::Status ConnectRemote(const Checkpoint& checkpoint, WeightExchange& exchange);

  int rank() const { return options_.rank; }
  // The experts that stand here, and those that are to come.
  ExpertStore& experts() { return *experts_; }
  // As ExpertStore::Adopt.
  absl::Status AdoptExperts(int layer, std::span<const int32_t> experts);

  // Runs this rank's share of the plan, with no rows too. Collective. Nothing on the device is
  // allocated. Errors are the communicator's and the device's; the result is then meaningless.
  absl::Status RunStep(const StepPlan& plan, RankResult& result);

  // Grows with every layer of every step, or once where a device runs the layers without the host:
  // a step that lives, however long it takes.
  uint64_t heartbeat() const { return heartbeat_.load(std::memory_order_relaxed); }

 private:
  Rank(const ModelConfig& config, const Device& device, const RankOptions& options,
       const Balance& balance, Communicator& comm);
  absl::Status AllocateBuffers();
  AttentionInputs Upload(const RankBatch& batch);
  absl::Status RunLayers(const RankBatch& batch, const AttentionInputs& inputs, RankResult& result);
  void MakeTables();
  void UploadTable(int layer);
  MoeRank AsMoeRank(int layer, int64_t rows);
  void GiveLayer(int layer, int64_t rows, const AttentionInputs& inputs);
  absl::Status RunExperts(int layer, int64_t rows, RankResult& result);
  void RecordRouting(int moe_layer, std::span<const int32_t> ids, RankResult& result) const;
  void RecordMoeLayer(int moe_layer, RankResult& result) const;
  absl::Status RecordTableLayers(int64_t rows, RankResult& result);
  absl::Status SampleRows(const RankBatch& batch, RankResult& result);

  const ModelConfig& config_;
  const Device& device_;
  const RankOptions options_;
  const Balance& balance_;
  Communicator& comm_;
  Stream stream_;
  std::unique_ptr<ModelWeights> weights_;
  std::unique_ptr<ExpertStore> experts_;
  RopeFrequencies rope_;
  Workspace buffers_;
  std::vector<KvCache> kv_;     // [layers]
  std::vector<int> moe_layer_;  // [layers] its number among the MoE layers; -1: dense
  // [layers] of a rank alone, whose device then runs a step without the host; else empty.
  std::vector<ExpertTable> tables_;
  int moe_layers_ = 0;
  std::vector<std::vector<const MoeWeights*>> peers_;  // [layers][ranks] null: out of reach
  std::unique_ptr<ExpertLoans> loans_;                 // null: all ranks are within reach
  std::vector<std::vector<MlpWeights>> shapes_;        // [layers][experts] with loans_
  MoeScratch moe_;
  std::vector<MatmulGroup> groups_;
  std::vector<float> cos_sin_;
  std::vector<const void*> logit_rows_;
  SampleStaging sampling_;
  std::atomic<uint64_t> heartbeat_{0};
};

}  // namespace ballast
