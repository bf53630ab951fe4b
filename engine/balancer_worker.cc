// The worker's half of the balancer: what takes time.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/balancer.h"

namespace ballast {
namespace {

constexpr std::chrono::seconds kSaveInterval(60);

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

void Balancer::Notice(bool warning, const std::string& text) const {
  if (events_.on_notice) events_.on_notice(warning, text);
}

// Ending with the engine is nothing to warn of.
void Balancer::NoticeEndedEarly(const std::string& what, const absl::Status& status) {
  bool stopping = false;
  {
    const std::lock_guard lock(mutex_);
    stopping = stop_;
  }
  Notice(!stopping, absl::StrCat(what, " ended early: ", status.message()));
}

void Balancer::Work() {
  Clock::time_point next_save = Clock::now() + kSaveInterval;
  while (true) {
    std::optional<ApplyJob> job;
    bool is_due = false;
    bool may_plan = false;
    {
      std::unique_lock lock(mutex_);
      const auto due = last_replan_ + std::chrono::duration_cast<Clock::duration>(
                                          std::chrono::duration<double>(options_.replan_interval));
      changed_.wait_until(lock, std::min(due, next_save), [this] { return stop_ || apply_; });
      if (stop_) break;
      job = std::exchange(apply_, std::nullopt);
      is_due = Clock::now() >= due;
      may_plan = plans_ && !paused_ && failure_.ok();
    }
    if (job) {
      RunApply(*std::move(job));
    } else if (is_due) {
      last_replan_ = Clock::now();
      if (may_plan) watch_ ? JudgeReplan() : Replan();
    }
    if (Clock::now() >= next_save) {
      SaveState();
      next_save = Clock::now() + kSaveInterval;
    }
  }
  std::optional<ApplyJob> left;
  {
    const std::lock_guard lock(mutex_);
    left = std::exchange(apply_, std::nullopt);
  }
  if (left) left->done(absl::UnavailableError("the engine has stopped"));
  SaveState();
}

void Balancer::RunApply(ApplyJob job) {
  watch_.reset();  // what it compares with is gone
  const absl::Status status = RunChanges(job.changes, MoveCause::kApply);
  {
    const std::lock_guard lock(mutex_);
    applying_ = false;
    job.answer.version = placement_.version;
  }
  if (status.ok()) {
    SaveState();
    job.done(job.answer);
  } else {
    job.done(status);
  }
}

void Balancer::Replan() {
  const LoadCopy load = CopyLoad(0);
  if (load.costs.version == 0 || load.steps < last_replan_steps_ + options_.replan_steps) return;
  last_replan_steps_ = load.steps;
  const std::vector<LayerPlacement> current = MoePlacement();
  const Clock::time_point start = Clock::now();
  ReplanDecision decision =
      DecideReplan(current, load.planning, load.held_out, load.costs, options_.replan);
  const double seconds = SecondsSince(start);
  if (events_.on_replan) events_.on_replan(seconds);
  Changes changes;
  int64_t moves = 0;
  {
    const std::lock_guard lock(mutex_);
    for (LayerReplanned& change : decision.changes) {
      const int layer = model_.moe_layers[static_cast<size_t>(change.layer)];
      if (pinned_[static_cast<size_t>(layer)] != 0) continue;
      moves += change.moves;
      changes.push_back({layer, std::move(change.placement)});
    }
  }
  if (changes.empty()) return;
  Notice(false,
         absl::StrFormat("replan: %d moves in %d layers, imbalance %.3f -> %.3f predicted, "
                         "planned in %.1f ms%s",
                         moves, changes.size(), decision.imbalance_before, decision.imbalance_after,
                         1e3 * seconds, acts_ ? "" : ", observed only"));
  if (!acts_) return;
  const absl::Status status = RunChanges(changes, MoveCause::kReplan);
  if (!status.ok()) {
    NoticeEndedEarly("replan", status);
    return;
  }
  watch_ = Watch{current, CopyLoad(0).steps};
  SaveState();
}

void Balancer::JudgeReplan() {
  const LoadCopy load = CopyLoad(watch_->since);
  if (load.steps < watch_->since + options_.watch_steps) return;
  const std::vector<LayerPlacement> now = MoePlacement();
  const std::vector<int> worse =
      LayersToRollBack(watch_->before, now, load.held_out, load.costs, options_.replan);
  const std::vector<LayerPlacement> before = std::move(watch_->before);
  watch_.reset();
  last_replan_steps_ = load.steps;
  Changes changes;
  for (const int layer : worse) {
    changes.push_back(
        {model_.moe_layers[static_cast<size_t>(layer)], before[static_cast<size_t>(layer)]});
  }
  if (changes.empty()) return;
  Notice(false, absl::StrCat("roll back ", changes.size(),
                             " layers: the load since the last replan suits the old placement"));
  const absl::Status status = RunChanges(changes, MoveCause::kRollback);
  if (!status.ok()) NoticeEndedEarly("rollback", status);
}

absl::Status Balancer::RunChanges(const Changes& changes, MoveCause cause) {
  std::vector<LayerPlacement> current = Placement().layers;
  int spares = 0;
  for (const LayerPlacement& layer : current) spares = std::max(spares, layer.slots_per_rank);
  size_t begin = 0;
  for (const size_t end : GroupChanges(current, changes, spares)) {
    std::vector<SlotMove> moves;
    for (size_t i = begin; i < end; ++i) {
      const LayerChange& change = changes[i];
      const std::vector<SlotMove> of_layer =
          ListSlotMoves(change.layer, current[static_cast<size_t>(change.layer)], change.placement,
                        options_.replan.node);
      moves.insert(moves.end(), of_layer.begin(), of_layer.end());
    }
    absl::Status status = RunMoves(moves, cause != MoveCause::kApply);
    if (status.ok()) {
      status = Commit({changes.begin() + static_cast<ptrdiff_t>(begin),
                       changes.begin() + static_cast<ptrdiff_t>(end)},
                      cause, static_cast<int64_t>(moves.size()));
    }
    if (!status.ok()) {
      world_.DropMoves().IgnoreError();
      return status;
    }
    begin = end;
  }
  return absl::OkStatus();
}

absl::Status Balancer::RunMoves(const std::vector<SlotMove>& moves, bool paced) {
  for (const SlotMove& move : moves) {
    {
      std::unique_lock lock(mutex_);
      // An operator's wish comes before plans, and is not paced.
      const auto interrupted = [&] { return stop_ || !failure_.ok() || (paced && apply_); };
      if (paced) changed_.wait_until(lock, next_move_, interrupted);
      if (interrupted())
        return absl::UnavailableError("interrupted by a placement that is applied");
      move_began_ = Clock::now();
      move_reported_ = false;
    }
    absl::Status status = world_.Move(move);
    {
      const std::lock_guard lock(mutex_);
      next_move_ =
          *move_began_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                             static_cast<double>(model_.expert_bytes) /
                             static_cast<double>(options_.move_bytes_per_second)));
      move_began_.reset();
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Balancer::Commit(Changes changes, MoveCause cause, int64_t moves) {
  std::unique_lock lock(mutex_);
  staged_ = std::move(changes);
  staged_cause_ = cause;
  staged_moves_ = moves;
  lock.unlock();
  wake_();
  lock.lock();
  changed_.wait(lock, [this] { return staged_.empty() || stop_ || !failure_.ok(); });
  if (staged_.empty()) return absl::OkStatus();
  staged_.clear();
  return absl::UnavailableError(failure_.ok() ? "the engine has stopped"
                                              : std::string(failure_.message()));
}

void Balancer::SaveState() const {
  if (options_.state_file.empty()) return;
  BalanceState state;
  state.fingerprint = options_.fingerprint;
  state.placement = Placement().layers;
  {
    const std::lock_guard lock(load_mutex_);
    state.costs = cost_model_.state();
  }
  const absl::Status status = WriteBalanceState(options_.state_file, state);
  if (!status.ok()) Notice(true, absl::StrCat("balance state is not kept: ", status.message()));
}

}  // namespace ballast
