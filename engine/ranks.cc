#include "engine/ranks.h"

#include <chrono>
#include <utility>

#include "engine/comm/in_process.h"
#include "engine/gpu_ranks.h"
#include "engine/synchronize.h"
#include "engine/unit.h"

namespace ballast {
namespace {

// Longer than any step may take: ranks of one process fail together or not at all, so this only
// turns a bug's hang into an error.
constexpr std::chrono::minutes kExchangeDeadline(10);

void CopyMatrix(const Device& device, Stream stream, const PackedMatrix& from, PackedMatrix& to) {
  device.copy(stream, to.data, from.data, device.packed_bytes(from.type, from.n, from.k));
}

}  // namespace

std::vector<std::unique_ptr<Communicator>> ThreadCommunicators(int ranks) {
  return MakeInProcessCommunicators(ranks, kExchangeDeadline);
}

Ranks::Ranks(RanksParts parts) : parts_(std::move(parts)), statuses_(parts_.comms.size()) {
  if (parts_.comms.size() > 1) {
    for (size_t i = 0; i < parts_.comms.size(); ++i) {
      const int unit = UnitOfRank(*parts_.device, parts_.first + static_cast<int>(i));
      copies_.push_back(parts_.device->create_stream(unit, /*threads=*/1));
    }
  }
  const ModelConfig& config = parts_.checkpoint->config();
  balance_.layers.resize(config.layers);
  for (const int layer : MoeLayers(config)) {
    BuildReplicas(parts_.placement[layer], config.experts, parts_.node, balance_.layers[layer]);
  }
}

absl::StatusOr<std::unique_ptr<Ranks>> Ranks::Create(
    RanksParts parts, const std::function<void(size_t done, size_t total)>& progress) {
  std::unique_ptr<Ranks> ranks(new Ranks(std::move(parts)));
  const RanksParts& p = ranks->parts_;
  const size_t count = p.comms.size();
  for (size_t i = 0; i < count; ++i) {
    RankOptions own = p.options;
    own.rank = p.first + static_cast<int>(i);
    if (own.rank != p.slow_rank) own.slowdown = 1;
    own.unit = UnitOfRank(*p.device, own.rank);
    const auto own_progress = [&](size_t done, size_t total) {
      if (progress) progress(i * total + done, count * total);
    };
    ASSIGN_OR_RETURN(ranks->ranks_.emplace_back(),
                     Rank::Create(*p.checkpoint, *p.device, own, p.placement, ranks->balance_,
                                  *p.comms[i], own_progress));
  }
  for (size_t i = 0; i < count; ++i) {
    const std::span<const std::unique_ptr<Rank>> all(ranks->ranks_);
    ranks->ranks_[i]->Connect(p.weights.empty() ? all : all.subspan(i, 1));
    if (!p.weights.empty()) {
      RETURN_IF_ERROR(ranks->ranks_[i]->ConnectRemote(*p.checkpoint, *p.weights[i]));
    }
  }
  for (size_t i = 1; i < count; ++i) {
    ranks->threads_.emplace_back([self = ranks.get(), i] { self->Serve(i); });
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
  for (const Stream copies : copies_) parts_.device->destroy_stream(copies);
  ranks_.clear();
  if (!parts_.weights.empty()) Disconnect({std::move(parts_.comms), std::move(parts_.weights)});
}

absl::Status Ranks::RunRank(size_t index) {
  Rank& rank = *ranks_[index];
  absl::Status status = rank.RunStep(*plan_, result_->ranks[static_cast<size_t>(rank.rank())]);
  if (!status.ok()) {
    // The others must not wait for it.
    for (const std::unique_ptr<Communicator>& comm : parts_.comms) comm->Fail(status);
    for (const std::unique_ptr<WeightExchange>& weights : parts_.weights) weights->Fail(status);
  }
  return status;
}

void Ranks::Serve(size_t index) {
  uint64_t served = 0;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      started_.wait(lock, [&] { return stop_ || step_ != served; });
      if (stop_) return;
      served = step_;
    }
    statuses_[index] = RunRank(index);
    const std::lock_guard lock(mutex_);
    if (--busy_ == 0) finished_.notify_one();
  }
}

absl::Status Ranks::TakeChanges(const StepPlan& plan) {
  balance_.costs = plan.costs;
  for (const LayerChange& change : plan.changes) {
    for (const std::unique_ptr<Rank>& rank : ranks_) {
      RETURN_IF_ERROR(
          rank->AdoptExperts(change.layer, ExpertsOfRank(change.placement, rank->rank())));
    }
    BuildReplicas(change.placement, parts_.checkpoint->config().experts, parts_.node,
                  balance_.layers[static_cast<size_t>(change.layer)]);
  }
  return absl::OkStatus();
}

absl::Status Ranks::RunStep(const StepPlan& plan, StepResult& result) {
  RETURN_IF_ERROR(TakeChanges(plan));
  result.ranks.resize(static_cast<size_t>(size()));
  {
    const std::lock_guard lock(mutex_);
    plan_ = &plan;
    result_ = &result;
    busy_ = threads_.size();
    ++step_;
  }
  started_.notify_all();
  statuses_[0] = RunRank(0);
  {
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [this] { return busy_ == 0; });
  }
  for (const absl::Status& status : statuses_) RETURN_IF_ERROR(status);
  return absl::OkStatus();
}

absl::Status Ranks::Move(const SlotMove& move) {
  const MlpWeights* from = rank(move.from).experts().Find(move.layer, move.expert);
  CHECK(from != nullptr);
  const Stream copies = copies_[static_cast<size_t>(move.from - parts_.first)];
  ASSIGN_OR_RETURN(MlpWeights to, rank(move.to).experts().Reserve(move.layer, move.expert, *from));
  CopyMatrix(*parts_.device, copies, from->gate, to.gate);
  CopyMatrix(*parts_.device, copies, from->up, to.up);
  CopyMatrix(*parts_.device, copies, from->down, to.down);
  return Synchronize(*parts_.device, copies);
}

absl::Status Ranks::DropMoves() {
  for (const std::unique_ptr<Rank>& rank : ranks_) rank->experts().DropReserved();
  return absl::OkStatus();
}

uint64_t Ranks::heartbeat() const {
  uint64_t sum = 0;
  for (const std::unique_ptr<Rank>& rank : ranks_) sum += rank->heartbeat();
  return sum;
}

}  // namespace ballast
