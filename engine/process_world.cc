#include "engine/process_world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/step_bytes.h"
#include "engine/unit.h"

namespace ballast {
namespace {

// How long a heartbeat may take to say which rank broke a connection.
constexpr std::chrono::milliseconds kExplainLimit(500);
constexpr std::chrono::seconds kStopLimit(5);

// What the loop reads by the plan's own numbers.
absl::Status CheckResult(const RankBatch& batch, const RankResult& own, const RankResult& result) {
  if (result.expert_rows.size() != own.expert_rows.size() ||
      result.run_rows.size() != own.run_rows.size() ||
      result.timings.size() != own.timings.size() || result.balance.size() != own.balance.size() ||
      result.routed.size() % std::max<size_t>(batch.tokens.size(), 1) != 0) {
    return absl::InternalError("result: its layers or experts are not this model's");
  }
  if (result.samples.size() != batch.samples.size()) {
    return absl::InternalError(absl::StrCat("result: found ", result.samples.size(),
                                            " samples, expected ", batch.samples.size()));
  }
  for (size_t i = 0; i < batch.samples.size(); ++i) {
    if (batch.samples[i].logprobs >= 0 && !result.samples[i].logprobs) {
      return absl::InternalError(
          absl::StrCat("result: sample ", i, " has no log-probabilities, though asked for"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

ProcessWorld::ProcessWorld(std::unique_ptr<ProcessLinks> links) : links_(std::move(links)) {
  for (int peer = 1; peer < size(); ++peer) channels_.emplace_back(links_->plans(), peer);
}

absl::StatusOr<std::unique_ptr<ProcessWorld>> ProcessWorld::Create(
    const ProcessGroup& group, RanksParts parts,
    const std::function<void(size_t done, size_t total)>& progress) {
  ASSIGN_OR_RETURN(std::unique_ptr<ProcessLinks> links,
                   ProcessLinks::Connect(group, *parts.device));
  std::unique_ptr<ProcessWorld> world(new ProcessWorld(std::move(links)));
  if (const absl::Status loaded = world->Load(std::move(parts), progress); !loaded.ok()) {
    return world->Broken(loaded);
  }
  return world;
}

absl::Status ProcessWorld::Load(RanksParts parts,
                                const std::function<void(size_t done, size_t total)>& progress) {
  const LoadOrder order{parts.placement, parts.node, parts.slow_rank, parts.options.slowdown};
  AppendLoadOrder(order, bytes_);
  for (GlooChannel& channel : channels_) {
    RETURN_IF_ERROR(channel.Send(static_cast<uint32_t>(PlanMessage::kLoad), bytes_));
  }
  const Device& device = *parts.device;
  parts.first = 0;
  parts.comms.clear();
  parts.comms.push_back(links_->LendRows());
  parts.weights.clear();
  parts.weights.push_back(links_->LendWeights());
  ASSIGN_OR_RETURN(ranks_, Ranks::Create(std::move(parts), progress));
  mover_ = std::make_unique<ExpertMover>(links_->migration(), device, UnitOfRank(device, 0),
                                         ranks_->rank(0).experts());
  for (GlooChannel& channel : channels_) {
    RETURN_IF_ERROR(Receive(channel, PlanMessage::kLoaded).status());
  }
  return absl::OkStatus();
}

ProcessWorld::~ProcessWorld() {
  if (!links_->failure().ok()) return;
  links_->Part();
  if (mover_ != nullptr) mover_->Stop();
  for (GlooChannel& channel : channels_) {
    if (!channel.Send(static_cast<uint32_t>(PlanMessage::kStop), "", kStopLimit).ok()) return;
  }
  for (GlooChannel& channel : channels_) {
    if (!channel.Receive(kStopLimit).ok()) return;
  }
}

absl::StatusOr<ChannelMessage> ProcessWorld::Receive(GlooChannel& from, PlanMessage expected) {
  ASSIGN_OR_RETURN(ChannelMessage message, from.Receive());
  if (message.kind == static_cast<uint32_t>(expected)) return message;
  if (message.kind >= static_cast<uint32_t>(PlanMessage::kFailed)) {
    const uint32_t code = message.kind - static_cast<uint32_t>(PlanMessage::kFailed);
    return absl::Status(static_cast<absl::StatusCode>(code),
                        absl::StrCat("rank ", from.peer(), ": ", message.bytes));
  }
  return absl::InternalError(absl::StrCat("rank ", from.peer(), ": found message ", message.kind,
                                          ", expected ", static_cast<uint32_t>(expected)));
}

// Ends the world. A rank that could not go on says why and then sends no more rows: so what it said
// is the cause, not what others saw of it.
absl::Status ProcessWorld::Broken(const absl::Status& seen) {
  absl::Status cause = links_->Explain(seen, kExplainLimit);
  links_->CloseRows();
  for (GlooChannel& channel : channels_) {
    const absl::StatusOr<ChannelMessage> last = channel.Receive(kExplainLimit);
    if (!last.ok()) break;
    constexpr auto kFailed = static_cast<uint32_t>(PlanMessage::kFailed);
    // Who only lost another is not the cause.
    if (last->kind > kFailed + static_cast<uint32_t>(absl::StatusCode::kOk) &&
        last->kind != kFailed + static_cast<uint32_t>(absl::StatusCode::kUnavailable)) {
      cause = absl::UnavailableError(absl::StrCat("rank ", channel.peer(), ": ", last->bytes));
    }
  }
  cause = absl::UnavailableError(cause.message());
  links_->Fail(cause);
  return cause;
}

absl::Status ProcessWorld::TryStep(const StepPlan& plan, StepResult& result) {
  for (GlooChannel& channel : channels_) {
    bytes_.clear();
    AppendPlan(plan, channel.peer(), bytes_);
    RETURN_IF_ERROR(channel.Send(static_cast<uint32_t>(PlanMessage::kStep), bytes_));
  }
  links_->rows().BeginStep({links_->group().epoch, plan.step, plan.placement_version});
  RETURN_IF_ERROR(ranks_->RunStep(plan, result));
  for (GlooChannel& channel : channels_) {
    ASSIGN_OR_RETURN(const ChannelMessage message, Receive(channel, PlanMessage::kResult));
    const auto rank = static_cast<size_t>(channel.peer());
    RETURN_IF_ERROR(ParseResult(message.bytes, result.ranks[rank]));
    RETURN_IF_ERROR(CheckResult(plan.ranks[rank], result.ranks[0], result.ranks[rank]));
  }
  return absl::OkStatus();
}

absl::Status ProcessWorld::RunStep(const StepPlan& plan, StepResult& result) {
  RETURN_IF_ERROR(links_->failure());
  const absl::Status status = TryStep(plan, result);
  return status.ok() ? status : Broken(status);
}

absl::Status ProcessWorld::Move(const SlotMove& move) { return mover_->Move(move); }

absl::Status ProcessWorld::DropMoves() { return mover_->Drop(); }

}  // namespace ballast
