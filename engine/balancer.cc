#include "engine/balancer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/request.h"

namespace ballast {
namespace {

CostModelOptions CostModelOf(const World& world, const BalancerOptions& options) {
  CostModelOptions cost;
  cost.ranks = world.size();
  cost.tile_rows = options.costs.tile_rows;
  return cost;
}

LoadWindowOptions WindowOf(const BalancedModel& model) {
  LoadWindowOptions window;
  window.layers = static_cast<int>(model.moe_layers.size());
  window.experts = model.experts;
  return window;
}

}  // namespace

Balancer::Balancer(World& world, BalancedModel model, BalancerOptions options, EngineEvents events,
                   std::function<void()> wake)
    : world_(world),
      model_(std::move(model)),
      options_(std::move(options)),
      events_(std::move(events)),
      wake_(std::move(wake)),
      plans_(world.size() > 1 && !model_.moe_layers.empty() &&
             (options_.mode == "observe" || options_.mode == "full")),
      acts_(options_.mode == "full"),
      cost_model_(CostModelOf(world, options_)),
      costs_(options_.costs),
      window_(WindowOf(model_)),
      counters_(model_.moe_layers, model_.experts, world.size()),
      placement_{1, model_.placement},
      pinned_(model_.placement.size(), 0),
      last_replan_(Clock::now()),
      next_move_(Clock::now()) {
  if (options_.learned) RestoreCosts(*options_.learned);
  worker_ = std::thread([this] { Work(); });
}

void Balancer::RestoreCosts(const CostState& learned) {
  const absl::Status status = cost_model_.Restore(learned);
  if (status.ok()) {
    cost_model_.Publish(costs_);
  } else {
    Notice(true, absl::StrCat("costs of the balance state ignored: ", status.message()));
  }
}

Balancer::~Balancer() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  worker_.join();
}

bool Balancer::HasChange() const {
  const std::lock_guard lock(mutex_);
  return !staged_.empty();
}

void Balancer::BeforeStep(StepPlan& plan) {
  {
    const std::lock_guard lock(load_mutex_);
    plan.costs = costs_;
  }
  const std::lock_guard lock(mutex_);
  plan.changes = staged_;
  plan.placement_version = placement_.version + (staged_.empty() ? 0 : 1);
}

void Balancer::AfterStep(const absl::Status& status, const StepPlan& plan, const StepResult& result,
                         int64_t prefill_rows, int64_t decode_rows) {
  if (status.ok()) {
    const std::lock_guard lock(load_mutex_);
    for (size_t rank = 0; rank < result.ranks.size(); ++rank) {
      cost_model_.Observe(static_cast<int>(rank), result.ranks[rank].timings);
    }
    cost_model_.Publish(costs_);
    counters_.Add(result, prefill_rows + decode_rows);
    for (size_t layer = 0; layer < model_.moe_layers.size(); ++layer) {
      window_.Observe(static_cast<int>(layer), counters_.last_rows(layer));
    }
    window_.EndStep(prefill_rows, decode_rows);
  }
  PlacementReport report;
  PlacementState now;
  bool stuck = false;
  {
    const std::lock_guard lock(mutex_);
    if (!status.ok()) {
      failure_ = status;
    } else if (!plan.changes.empty()) {
      for (const LayerChange& change : plan.changes) {
        placement_.layers[static_cast<size_t>(change.layer)] = change.placement;
      }
      placement_.version = plan.placement_version;
      staged_.clear();
      slot_moves_ += staged_moves_;
      report = {staged_cause_, &now, staged_moves_, staged_moves_ * model_.expert_bytes};
      now = placement_;
    }
    if (move_began_ && !move_reported_) {
      stuck =
          std::chrono::duration<double>(Clock::now() - *move_began_).count() > options_.stuck_move;
      move_reported_ = stuck;
    }
  }
  changed_.notify_all();
  if (report.placement != nullptr && events_.on_placement) events_.on_placement(report);
  if (stuck)
    Notice(true, absl::StrCat("a move of expert weights takes over ", options_.stuck_move,
                              " s; steps go on, placement changes wait"));
}

ExpertLoad Balancer::Load() const {
  ExpertLoad load;
  {
    const std::lock_guard lock(load_mutex_);
    load = counters_.load();
    for (int rank = 0; rank < world_.size(); ++rank) {
      load.rank_speed.push_back(static_cast<double>(SpeedOf(costs_, rank)) / kNominalSpeed);
    }
  }
  const std::lock_guard lock(mutex_);
  load.placement_version = placement_.version;
  load.slot_moves = slot_moves_;
  return load;
}

PlacementState Balancer::Placement() const {
  const std::lock_guard lock(mutex_);
  return placement_;
}

absl::Status Balancer::CheckRequest(const PlacementRequest& request, Changes& changes) const {
  if (request.layers.size() != placement_.layers.size()) {
    return absl::InvalidArgumentError(absl::StrCat("layers: found ", request.layers.size(),
                                                   ", the model has ", placement_.layers.size()));
  }
  if (request.expected_version != 0 && request.expected_version != placement_.version) {
    return absl::AbortedError(absl::StrCat("expected_version: found ", request.expected_version,
                                           ", version ", placement_.version, " is in force"));
  }
  for (size_t layer = 0; layer < request.layers.size(); ++layer) {
    const LayerPlacement& wanted = request.layers[layer];
    const LayerPlacement& held = placement_.layers[layer];
    if (wanted.slot_expert.empty()) continue;
    if (!std::count(model_.moe_layers.begin(), model_.moe_layers.end(), layer)) {
      return absl::InvalidArgumentError(
          absl::StrCat("layer ", layer, ": found a placement, it has no experts"));
    }
    if (wanted.slots_per_rank != held.slots_per_rank) {
      return FieldError("placement.layers.slots_per_rank",
                        absl::StrCat(wanted.slots_per_rank, " in layer ", layer),
                        absl::StrCat(held.slots_per_rank, ", as its ranks have"));
    }
    RETURN_IF_ERROR(
        ValidatePlacement(wanted, static_cast<int>(layer), model_.experts, world_.size()));
    if (wanted.slot_expert != held.slot_expert) {
      changes.push_back({static_cast<int32_t>(layer), wanted});
    }
  }
  return absl::OkStatus();
}

std::vector<LayerPlacement> Balancer::MoePlacement() const {
  const std::lock_guard lock(mutex_);
  std::vector<LayerPlacement> placement;
  for (const int layer : model_.moe_layers) {
    placement.push_back(placement_.layers[static_cast<size_t>(layer)]);
  }
  return placement;
}

Balancer::LoadCopy Balancer::CopyLoad(int64_t since) const {
  const std::lock_guard lock(load_mutex_);
  return {window_.Planning(costs_), window_.HeldOut(since), costs_, window_.steps()};
}

PlacementChange Balancer::Predict(const Changes& changes) const {
  std::vector<LayerPlacement> before = MoePlacement();
  std::vector<LayerPlacement> after = before;
  for (const LayerChange& change : changes) {
    const auto at = std::find(model_.moe_layers.begin(), model_.moe_layers.end(), change.layer);
    after[static_cast<size_t>(at - model_.moe_layers.begin())] = change.placement;
  }
  const LoadCopy load = CopyLoad(0);
  PlacementChange predicted;
  predicted.slot_moves = CountSlotMoves(before, after);
  predicted.bytes = predicted.slot_moves * model_.expert_bytes;
  const std::vector<int32_t>& node = options_.replan.node;
  predicted.predicted_imbalance_before =
      PredictedImbalance(before, load.held_out, load.costs, node);
  predicted.predicted_imbalance_after = PredictedImbalance(after, load.held_out, load.costs, node);
  return predicted;
}

void Balancer::Apply(PlacementRequest request, PlacementCallback done) {
  Changes changes;
  uint64_t version = 0;
  absl::Status status;
  {
    const std::lock_guard lock(mutex_);
    status = CheckRequest(request, changes);
    version = placement_.version;
  }
  if (!status.ok()) {
    done(status);
    return;
  }
  PlacementChange answer = Predict(changes);
  answer.version = version;
  if (request.dry_run) {
    done(answer);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    if (stop_ || !failure_.ok()) {
      status = absl::UnavailableError("the engine has stopped");
    } else if (applying_) {
      status = absl::AbortedError(
          absl::StrCat("another placement is being applied; version ", placement_.version,
                       " is in force, this one was checked against ", version));
    } else if (placement_.version != version && request.expected_version != 0) {
      status = absl::AbortedError(absl::StrCat("expected_version: found ", request.expected_version,
                                               ", version ", placement_.version, " is in force"));
    } else {
      applying_ = true;
      for (size_t layer = 0; layer < request.layers.size(); ++layer) {
        if (!request.layers[layer].slot_expert.empty()) pinned_[layer] = 1;
      }
      apply_ = ApplyJob{std::move(changes), done, answer};
    }
  }
  if (!status.ok()) {
    done(status);
    return;
  }
  changed_.notify_all();
}

BalancingState Balancer::SetPaused(bool paused) {
  const std::lock_guard lock(mutex_);
  paused_ = paused;
  if (!paused) std::fill(pinned_.begin(), pinned_.end(), 0);
  return {paused_, options_.mode};
}

BalancingState Balancer::State() const {
  const std::lock_guard lock(mutex_);
  return {paused_, options_.mode};
}

}  // namespace ballast
