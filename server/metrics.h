// What Prometheus reads: /metrics, and the per-expert counts of /metrics/experts. Names as in the
// wire's documentation, all beginning with ballast_.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "engine/engine.h"
#include "server/expert_metrics.h"

namespace ballast {

// Counting (the events and CountRejected) and reading may happen on any threads at once. Every
// series but build_info's and the experts' exists from the start, at 0.
class Metrics {
 public:
  // Beyond shape.expert_series each layer shows its first experts on /metrics/experts, and the sum
  // of the others as expert="other".
  explicit Metrics(const MetricsShape& shape);
  ~Metrics();

  // "stop", "length", "aborted"; kNone: "failed".
  static const char* FinishLabel(FinishReason reason);

  // Hooks for the engine; this object must outlive it.
  EngineEvents Events();
  // A request that was turned away; `reason` as in GrpcEvents. Reasons beyond the known ones count
  // as "other", so that labels stay few.
  void CountRejected(std::string_view reason);
  // Labels of build_info.
  void SetBuild(const std::string& version, const std::string& model, const std::string& compute,
                const std::string& kernels);
  // The placement that is in force before any event of a change.
  void SetPlacement(const PlacementState& placement) { experts_.ShowPlacement(placement); }

  // Pages in Prometheus' text format.
  std::string Page(const EngineStats& stats);
  std::string ExpertPage() const;
  // Experts that share a series with others of their layer.
  int64_t aggregated_experts() const { return experts_.aggregated_experts(); }

 private:
  struct Families;
  std::unique_ptr<Families> families_;
  ExpertMetrics experts_;
};

}  // namespace ballast
