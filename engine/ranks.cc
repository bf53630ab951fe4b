#include "engine/ranks.h"

#include <chrono>

#include "engine/comm/in_process.h"

namespace ballast {
namespace {

// Longer than any step may take: ranks of one process fail together or not at all, so this only
// turns a bug's hang into an error.
constexpr std::chrono::minutes kExchangeDeadline(10);

}  // namespace

absl::StatusOr<std::unique_ptr<Ranks>> Ranks::Create(
    const Checkpoint& checkpoint, const Device& device, int count, const RankOptions& options,
    const std::vector<LayerPlacement>& placement, const CostParameters& costs,
    const std::function<void(size_t done, size_t total)>& progress) {
  std::unique_ptr<Ranks> ranks(new Ranks());
  const ModelConfig& config = checkpoint.config();
  ranks->balance_.costs = costs;
  ranks->balance_.layers.resize(config.layers);
  for (const int layer : MoeLayers(config)) {
    BuildReplicas(placement[layer], config.experts, {}, ranks->balance_.layers[layer]);
  }
  ranks->comms_ = MakeInProcessCommunicators(count, kExchangeDeadline);
  ranks->statuses_.resize(count);
  for (int rank = 0; rank < count; ++rank) {
    RankOptions own = options;
    own.rank = rank;
    const auto own_progress = [&](size_t done, size_t total) {
      if (progress) progress(rank * total + done, count * total);
    };
    ASSIGN_OR_RETURN(
        ranks->ranks_.emplace_back(),
        Rank::Create(checkpoint, device, own, ranks->balance_, *ranks->comms_[rank], own_progress));
  }
  for (const std::unique_ptr<Rank>& rank : ranks->ranks_) rank->Connect(ranks->ranks_);
  for (int rank = 1; rank < count; ++rank) {
    ranks->threads_.emplace_back([self = ranks.get(), rank] { self->Serve(rank); });
  }
  return ranks;
}

Ranks::~Ranks() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  started_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Ranks::Serve(int rank) {
  uint64_t served = 0;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      started_.wait(lock, [&] { return stop_ || step_ != served; });
      if (stop_) return;
      served = step_;
    }
    statuses_[rank] = ranks_[rank]->RunStep(*plan_, result_->ranks[rank]);
    const std::lock_guard lock(mutex_);
    if (--busy_ == 0) finished_.notify_one();
  }
}

absl::Status Ranks::RunStep(const StepPlan& plan, StepResult& result) {
  result.ranks.resize(ranks_.size());
  {
    const std::lock_guard lock(mutex_);
    plan_ = &plan;
    result_ = &result;
    busy_ = size() - 1;
    ++step_;
  }
  started_.notify_all();
  statuses_[0] = ranks_[0]->RunStep(plan, result.ranks[0]);
  {
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [this] { return busy_ == 0; });
  }
  for (const absl::Status& status : statuses_) RETURN_IF_ERROR(status);
  return absl::OkStatus();
}

uint64_t Ranks::heartbeat() const {
  uint64_t sum = 0;
  for (const std::unique_ptr<Rank>& rank : ranks_) sum += rank->heartbeat();
  return sum;
}

}  // namespace ballast
