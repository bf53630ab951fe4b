// What Prometheus reads of experts, ranks and their balance. Part of metrics.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <prometheus/metric_family.h>

#include "engine/engine.h"

namespace ballast {

// What is served: how many series there are.
struct MetricsShape {
  std::vector<int> moe_layers;  // layer numbers
  int experts = 0;              // of each
  int ranks = 1;
  int64_t expert_series = 20000;  // on /metrics/experts at most
};

// Counts of a layer and something of the layer: [layers, width]. Thousands of them change every
// step, so they are plain atomics that become Prometheus' types only when they are read.
class CountGrid {
 public:
  CountGrid(std::vector<int> layers, int width);

  // counts [layers, width], or fewer; those beyond are left out.
  void Add(std::span<const int64_t> counts);
  void Add(size_t layer, int at, int64_t count);
  int64_t Get(size_t layer, int at) const;
  const std::vector<int>& layers() const { return layers_; }

  // One series for each count, named layer and `label`; the label empty: layer alone.
  prometheus::MetricFamily Collect(const std::string& name, const std::string& help,
                                   const std::string& label) const;

 private:
  std::vector<int> layers_;
  size_t width_;
  std::vector<std::atomic<int64_t>> counts_;  // [layers, width]
};

// Counting and reading may happen on any threads at once.
class ExpertMetrics {
 public:
  explicit ExpertMetrics(const MetricsShape& shape);
  ~ExpertMetrics();

  void CountStep(const StepReport& report);
  void CountPlacement(const PlacementReport& report);
  void CountReplan(double seconds);
  void CountWarning();
  void ShowPlacement(const PlacementState& placement);

  // Of /metrics, and of /metrics/experts.
  std::vector<prometheus::MetricFamily> Collect() const;
  std::vector<prometheus::MetricFamily> CollectExperts() const;
  // Experts that share a series with others of their layer.
  int64_t aggregated_experts() const;

 private:
  struct Families;
  CountGrid expert_rows_;
  CountGrid rank_rows_;
  CountGrid spilled_rows_;
  CountGrid rows_over_bound_;
  int experts_;
  int shown_experts_ = 0;  // of each layer, with a series of their own
  std::unique_ptr<Families> families_;
};

}  // namespace ballast
