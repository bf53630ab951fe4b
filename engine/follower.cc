#include "engine/follower.h"

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/expert_mover.h"
#include "engine/prepare.h"
#include "engine/process_links.h"
#include "engine/rank_parts.h"
#include "engine/ranks.h"
#include "engine/step_bytes.h"
#include "engine/unit.h"

namespace ballast {
namespace {

// How long a heartbeat may take to say which rank broke a connection.
constexpr std::chrono::milliseconds kExplainLimit(500);
// What a rank says last must reach the leader before its connections close.
constexpr std::chrono::seconds kLastWordLimit(5);

constexpr uint32_t Number(PlanMessage message) { return static_cast<uint32_t>(message); }

absl::Status CheckPlacement(const ModelConfig& config, int layer, const LayerPlacement& placement,
                            int ranks) {
  if (layer < 0 || layer >= config.layers || !config.is_moe[static_cast<size_t>(layer)]) {
    return absl::InvalidArgumentError(
        absl::StrCat("placement: layer ", layer, " has no experts in this checkpoint"));
  }
  return ValidatePlacement(placement, layer, config.experts, ranks);
}

absl::Status CheckOrder(const ModelConfig& config, const LoadOrder& order, int ranks) {
  if (order.placement.size() != static_cast<size_t>(config.layers)) {
    return absl::InvalidArgumentError(absl::StrCat("load order: found ", order.placement.size(),
                                                   " layers, expected ", config.layers));
  }
  for (const int layer : MoeLayers(config)) {
    RETURN_IF_ERROR(
        CheckPlacement(config, layer, order.placement[static_cast<size_t>(layer)], ranks));
  }
  return absl::OkStatus();
}

class Follower {
 public:
  Follower(const PreparedModel& model, std::unique_ptr<ProcessLinks> links)
      : model_(model), links_(std::move(links)), leader_(links_->plans(), 0) {}

  absl::Status Run(const FollowerEvents& events) {
    const absl::Status status = Serve(events);
    absl::Status cause = status.ok() ? status : GiveUp(status);
    links_->migration().Fail(absl::CancelledError("the rank has ended"));
    if (mover_thread_.joinable()) mover_thread_.join();
    return cause;
  }

 private:
  // Loads, then answers until the leader says stop.
  absl::Status Serve(const FollowerEvents& events) {
    RETURN_IF_ERROR(Load(events));
    mover_thread_ = std::thread([this] { mover_->Serve().IgnoreError(); });
    RETURN_IF_ERROR(leader_.Send(Number(PlanMessage::kLoaded), ""));
    if (events.on_loaded) events.on_loaded();
    while (true) {
      ASSIGN_OR_RETURN(const ChannelMessage message, leader_.Receive());
      if (message.kind == Number(PlanMessage::kStop)) break;
      if (message.kind != Number(PlanMessage::kStep)) return Unexpected(message.kind);
      RETURN_IF_ERROR(RunStep(message.bytes));
    }
    links_->Part();
    return leader_.Send(Number(PlanMessage::kStopped), "", kLastWordLimit);
  }

  absl::Status Load(const FollowerEvents& events) {
    ASSIGN_OR_RETURN(const ChannelMessage message, leader_.Receive());
    if (message.kind != Number(PlanMessage::kLoad)) return Unexpected(message.kind);
    LoadOrder order;
    RETURN_IF_ERROR(ParseLoadOrder(message.bytes, order));
    const ProcessGroup& group = links_->group();
    RETURN_IF_ERROR(CheckOrder(model_.info.config, order, group.size));
    RanksParts parts = PartsOf(model_, **model_.checkpoint);
    parts.options.slowdown = order.slowdown;
    parts.slow_rank = order.slow_rank;
    parts.first = group.rank;
    parts.comms.push_back(links_->LendRows());
    parts.weights.push_back(links_->LendWeights());
    parts.placement = std::move(order.placement);
    parts.node = std::move(order.node);
    ASSIGN_OR_RETURN(ranks_, Ranks::Create(std::move(parts), events.on_loading));
    mover_ = std::make_unique<ExpertMover>(links_->migration(), *model_.device,
                                           UnitOfRank(*model_.device, group.rank),
                                           ranks_->rank(group.rank).experts());
    return absl::OkStatus();
  }

  absl::Status RunStep(const std::string& bytes) {
    const ProcessGroup& group = links_->group();
    RETURN_IF_ERROR(ParsePlan(bytes, group.rank, group.size, plan_));
    for (const LayerChange& change : plan_.changes) {
      RETURN_IF_ERROR(
          CheckPlacement(model_.info.config, change.layer, change.placement, group.size));
    }
    links_->rows().BeginStep({group.epoch, plan_.step, plan_.placement_version});
    RETURN_IF_ERROR(ranks_->RunStep(plan_, result_));
    answer_.clear();
    AppendResult(result_.ranks[static_cast<size_t>(group.rank)], answer_);
    return leader_.Send(Number(PlanMessage::kResult), answer_);
  }

  static absl::Status Unexpected(uint32_t kind) {
    return absl::InternalError(
        absl::StrCat("rank 0: found message ", kind, ", expected a plan or the end"));
  }

  // The leader may be waiting for rows that will not come: it hears why first, then that wait ends,
  // and this rank stays until it has been heard. Returns the cause.
  absl::Status GiveUp(const absl::Status& why) {
    absl::Status cause = links_->Explain(why, kExplainLimit);
    const uint32_t kind = Number(PlanMessage::kFailed) + static_cast<uint32_t>(cause.code());
    const bool said = leader_.Send(kind, std::string(cause.message()), kLastWordLimit).ok();
    links_->CloseRows();
    if (said) leader_.Receive(kLastWordLimit).IgnoreError();
    links_->Part();
    return cause;
  }

  const PreparedModel& model_;
  std::unique_ptr<ProcessLinks> links_;
  GlooChannel leader_;
  std::unique_ptr<Ranks> ranks_;
  std::unique_ptr<ExpertMover> mover_;
  std::thread mover_thread_;  // answers the leader's moves beside steps
  StepPlan plan_;
  StepResult result_;
  std::string answer_;
};

}  // namespace

absl::Status RunFollower(const EngineOptions& options, const ProcessGroup& group,
                         const FollowerEvents& events) {
  ASSIGN_OR_RETURN(const PreparedModel model, PrepareModel(options));
  RETURN_IF_ERROR(model.checkpoint.status());
  RETURN_IF_ERROR(CheckFits(model, group.rank));
  ASSIGN_OR_RETURN(std::unique_ptr<ProcessLinks> links,
                   ProcessLinks::Connect(group, *model.device));
  return Follower(model, std::move(links)).Run(events);
}

}  // namespace ballast
