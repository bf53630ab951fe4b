// The streams of ExpertAdmin.
#pragma once

#include <chrono>
#include <optional>

#include "ballast/v1/expert_admin.pb.h"
#include "server/report_stream.h"

namespace ballast {

// The load of each interval. `engine`: or why the call is refused.
class LoadStream : public ReportStream<v1::ExpertLoad> {
 public:
  LoadStream(ServiceParts* parts, grpc::CallbackServerContext* context,
             absl::StatusOr<Engine*> engine, std::chrono::milliseconds interval)
      : ReportStream(parts, context), engine_(std::move(engine)), interval_(interval) {}

 private:
  Next Look(Clock::time_point now, v1::ExpertLoad* report, absl::Status* failure) override;

  const absl::StatusOr<Engine*> engine_;
  const std::chrono::milliseconds interval_;
  std::optional<ExpertLoad> last_;
  Clock::time_point last_time_;
};

// Drains the engine and reports what is left. Past `limit` it fails what still runs. Cancelling it
// leaves the engine draining, with no limit.
class DrainStream : public ReportStream<v1::DrainResponse> {
 public:
  DrainStream(ServiceParts* parts, grpc::CallbackServerContext* context,
              absl::StatusOr<Engine*> engine, double limit_seconds)
      : ReportStream(parts, context), engine_(std::move(engine)), limit_seconds_(limit_seconds) {}

 private:
  Next Look(Clock::time_point now, v1::DrainResponse* report, absl::Status* failure) override;

  const absl::StatusOr<Engine*> engine_;
  const double limit_seconds_;
  bool started_ = false;
  bool failed_ = false;
  Clock::time_point started_at_;
  Clock::time_point reported_at_;
};

}  // namespace ballast
