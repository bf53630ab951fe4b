#include "server/expert_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

namespace ballast {
namespace {

using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;

// Seconds. A wait lasts from a thread's wake-up to a rank that hangs.
const Histogram::BucketBoundaries kWaitBuckets = {
    1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 10};
const Histogram::BucketBoundaries kReplanBuckets = {1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02,
                                                    0.05, 0.1,  0.2,  0.5,  1,    2,    5,    10};

// In MoveCause's order.
constexpr std::array<const char*, 3> kCauses = {"replan", "apply", "rollback"};

// The unit of the cost model's times (cost_parameters.h).
constexpr double kCostSeconds = 1e-9;

prometheus::ClientMetric Series(int layer, const std::string& label, std::string value,
                                int64_t count) {
  prometheus::ClientMetric metric;
  metric.label.resize(label.empty() ? 1 : 2);
  metric.label[0].name = "layer";
  metric.label[0].value = std::to_string(layer);
  if (!label.empty()) {
    metric.label[1].name = label;
    metric.label[1].value = std::move(value);
  }
  metric.counter.value = static_cast<double>(count);
  return metric;
}

prometheus::MetricFamily CounterFamily(const std::string& name, const std::string& help) {
  prometheus::MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = prometheus::MetricType::Counter;
  return family;
}

}  // namespace

CountGrid::CountGrid(std::vector<int> layers, int width)
    : layers_(std::move(layers)),
      width_(static_cast<size_t>(width)),
      counts_(layers_.size() * width_) {}

void CountGrid::Add(std::span<const int64_t> counts) {
  for (size_t i = 0; i < std::min(counts.size(), counts_.size()); ++i) {
    if (counts[i] != 0) counts_[i].fetch_add(counts[i], std::memory_order_relaxed);
  }
}

void CountGrid::Add(size_t layer, int at, int64_t count) {
  if (count == 0 || layer >= layers_.size() || static_cast<size_t>(at) >= width_) return;
  counts_[layer * width_ + static_cast<size_t>(at)].fetch_add(count, std::memory_order_relaxed);
}

int64_t CountGrid::Get(size_t layer, int at) const {
  return counts_[layer * width_ + static_cast<size_t>(at)].load(std::memory_order_relaxed);
}

prometheus::MetricFamily CountGrid::Collect(const std::string& name, const std::string& help,
                                            const std::string& label) const {
  prometheus::MetricFamily family = CounterFamily(name, help);
  family.metric.reserve(counts_.size());
  for (size_t i = 0; i < counts_.size(); ++i) {
    family.metric.push_back(Series(layers_[i / width_], label, std::to_string(i % width_),
                                   counts_[i].load(std::memory_order_relaxed)));
  }
  return family;
}

struct ExpertMetrics::Families {
  explicit Families(const MetricsShape& shape) {
    auto& speed_family = prometheus::BuildGauge()
                             .Name("ballast_rank_speed_ratio")
                             .Help("Speed of a rank's experts as measured, the fastest being 1.")
                             .Register(registry);
    auto& wait_family = prometheus::BuildHistogram()
                            .Name("ballast_exchange_wait_seconds")
                            .Help("A rank's waiting for other ranks in exchanges, per step.")
                            .Register(registry);
    for (int rank = 0; rank < shape.ranks; ++rank) {
      const prometheus::Labels label = {{"rank", std::to_string(rank)}};
      speed.push_back(&speed_family.Add(label));
      speed.back()->Set(1);
      wait.push_back(&wait_family.Add(label, kWaitBuckets));
    }
    auto& replica_family = prometheus::BuildGauge()
                               .Name("ballast_expert_replicas")
                               .Help("Slots of a layer that hold an expert.")
                               .Register(registry);
    for (const int layer : shape.moe_layers) {
      replicas.push_back(&replica_family.Add({{"layer", std::to_string(layer)}}));
      replicas.back()->Set(shape.experts);
    }
    auto& bytes_family = prometheus::BuildCounter()
                             .Name("ballast_moved_bytes_total")
                             .Help("Weights moved by changes of the placement, by their cause.")
                             .Register(registry);
    for (size_t i = 0; i < kCauses.size(); ++i) {
      moved_bytes[i] = &bytes_family.Add({{"cause", kCauses[i]}});
    }
    version.Set(1);
  }

  prometheus::Registry registry;
  Gauge& version = prometheus::BuildGauge()
                       .Name("ballast_placement_version")
                       .Help("Grows by one with every change of the placement.")
                       .Register(registry)
                       .Add({});
  Counter& moves = prometheus::BuildCounter()
                       .Name("ballast_slot_moves_total")
                       .Help("Experts that became present on a rank in a layer.")
                       .Register(registry)
                       .Add({});
  Counter& warnings = prometheus::BuildCounter()
                          .Name("ballast_balance_warnings_total")
                          .Help("Warnings of balancing, such as a move that is stuck; see the log.")
                          .Register(registry)
                          .Add({});
  Counter& predicted = prometheus::BuildCounter()
                           .Name("ballast_predicted_step_seconds_total")
                           .Help("What the cost model predicted for the experts of all layers.")
                           .Register(registry)
                           .Add({});
  Histogram& replan = prometheus::BuildHistogram()
                          .Name("ballast_replan_seconds")
                          .Help("Computing a plan for the placement.")
                          .Register(registry)
                          .Add({}, kReplanBuckets);
  std::vector<Gauge*> speed;     // [ranks]
  std::vector<Histogram*> wait;  // [ranks]
  std::vector<Gauge*> replicas;  // [MoE layers]
  std::array<Counter*, kCauses.size()> moved_bytes;
};

ExpertMetrics::ExpertMetrics(const MetricsShape& shape)
    : expert_rows_(shape.moe_layers, shape.experts),
      rank_rows_(shape.moe_layers, shape.ranks),
      spilled_rows_(shape.moe_layers, 1),
      rows_over_bound_(shape.moe_layers, 1),
      experts_(shape.experts),
      families_(std::make_unique<Families>(shape)) {
  const auto layers = static_cast<int64_t>(shape.moe_layers.size());
  const int64_t room = layers == 0 ? 0 : shape.expert_series / layers;
  // One series of a layer that does not fit is "other".
  shown_experts_ = room >= experts_ ? experts_ : static_cast<int>(std::max<int64_t>(room - 1, 0));
}

ExpertMetrics::~ExpertMetrics() = default;

void ExpertMetrics::CountStep(const StepReport& report) {
  if (report.plan != nullptr) {
    const std::vector<int32_t>& speed = report.plan->costs.speed;
    for (size_t rank = 0; rank < std::min(speed.size(), families_->speed.size()); ++rank) {
      families_->speed[rank]->Set(static_cast<double>(speed[rank]) / kNominalSpeed);
    }
  }
  if (report.result == nullptr) return;
  const std::vector<RankResult>& ranks = report.result->ranks;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    expert_rows_.Add(ranks[rank].expert_rows);
    for (size_t layer = 0; layer < ranks[rank].run_rows.size(); ++layer) {
      rank_rows_.Add(layer, static_cast<int>(rank), ranks[rank].run_rows[layer]);
    }
    if (rank < families_->wait.size()) families_->wait[rank]->Observe(ranks[rank].wait_seconds);
  }
  if (ranks.empty()) return;
  // All ranks decided alike, so any of them tells.
  const std::vector<LayerBalance>& balance = ranks[0].balance;
  double predicted = 0;
  for (size_t layer = 0; layer < balance.size(); ++layer) {
    spilled_rows_.Add(layer, 0, balance[layer].spilled_rows);
    rows_over_bound_.Add(layer, 0, balance[layer].rows_over_bound);
    predicted += static_cast<double>(balance[layer].value) * kCostSeconds;
  }
  // Before the first fit the costs' unit is no time.
  const bool fitted = report.plan != nullptr && report.plan->costs.version > 0;
  if (fitted && predicted > 0) families_->predicted.Increment(predicted);
}

void ExpertMetrics::CountPlacement(const PlacementReport& report) {
  families_->moves.Increment(static_cast<double>(report.slot_moves));
  families_->moved_bytes.at(static_cast<size_t>(report.cause))
      ->Increment(static_cast<double>(report.bytes));
  if (report.placement != nullptr) ShowPlacement(*report.placement);
}

void ExpertMetrics::CountReplan(double seconds) { families_->replan.Observe(seconds); }

void ExpertMetrics::CountWarning() { families_->warnings.Increment(); }

void ExpertMetrics::ShowPlacement(const PlacementState& placement) {
  families_->version.Set(static_cast<double>(placement.version));
  for (size_t l = 0; l < families_->replicas.size(); ++l) {
    const auto layer = static_cast<size_t>(expert_rows_.layers()[l]);
    if (layer >= placement.layers.size()) continue;
    const std::vector<int32_t>& slots = placement.layers[layer].slot_expert;
    const auto empty = std::count(slots.begin(), slots.end(), -1);
    families_->replicas[l]->Set(static_cast<double>(slots.size()) - static_cast<double>(empty));
  }
}

std::vector<prometheus::MetricFamily> ExpertMetrics::Collect() const {
  std::vector<prometheus::MetricFamily> pages = families_->registry.Collect();
  pages.push_back(rank_rows_.Collect("ballast_rank_rows_total",
                                     "Rows of a layer where they ran, spilled ones too.", "rank"));
  pages.push_back(spilled_rows_.Collect("ballast_spilled_rows_total",
                                        "Rows that ran on a rank without a slot for their expert.",
                                        ""));
  pages.push_back(rows_over_bound_.Collect(
      "ballast_assign_rows_over_bound_total",
      "Rows' worth of predicted time by which assignments passed their lower bound.", ""));
  return pages;
}

std::vector<prometheus::MetricFamily> ExpertMetrics::CollectExperts() const {
  prometheus::MetricFamily rows =
      CounterFamily("ballast_expert_rows_total",
                    "Tokens routed to the expert; a token counts once for each of its experts.");
  const std::vector<int>& layers = expert_rows_.layers();
  for (size_t l = 0; l < layers.size(); ++l) {
    int64_t other = 0;
    for (int expert = 0; expert < experts_; ++expert) {
      const int64_t count = expert_rows_.Get(l, expert);
      if (expert < shown_experts_) {
        rows.metric.push_back(Series(layers[l], "expert", std::to_string(expert), count));
      } else {
        other += count;
      }
    }
    if (shown_experts_ < experts_) {
      rows.metric.push_back(Series(layers[l], "expert", "other", other));
    }
  }
  prometheus::MetricFamily aggregated;
  aggregated.name = "ballast_experts_aggregated";
  aggregated.help = "Experts without a series of their own, for the limit on series.";
  aggregated.type = prometheus::MetricType::Gauge;
  aggregated.metric.emplace_back();
  aggregated.metric.back().gauge.value = static_cast<double>(aggregated_experts());
  return {rows, aggregated};
}

int64_t ExpertMetrics::aggregated_experts() const {
  return static_cast<int64_t>(expert_rows_.layers().size()) * (experts_ - shown_experts_);
}

}  // namespace ballast
