// ballast.v1.ExpertAdmin on gRPC's callback API.
#pragma once

#include <chrono>
#include <mutex>
#include <optional>

#include "ballast/v1/expert_admin.grpc.pb.h"
#include "server/load_history.h"
#include "server/service_parts.h"

namespace ballast {

class ExpertAdminService : public v1::ExpertAdmin::CallbackService {
 public:
  using Clock = std::chrono::steady_clock;

  // Of WatchExpertLoad.
  static constexpr uint32_t kMinIntervalMs = 10;
  static constexpr uint32_t kMaxIntervalMs = 3'600'000;
  static constexpr uint32_t kDefaultIntervalMs = 1000;
  // Of Drain.
  static constexpr double kMaxDeadlineSeconds = 86400;

  // `parts` must outlive every call.
  explicit ExpertAdminService(ServiceParts* parts) : parts_(parts) {}

  // Remembers the load now and then, once there is an engine. Often; one thread at a time.
  void Tick(Clock::time_point now);

  grpc::ServerUnaryReactor* GetExpertLoad(grpc::CallbackServerContext* context,
                                          const v1::GetExpertLoadRequest* request,
                                          v1::ExpertLoad* response) override;
  grpc::ServerWriteReactor<v1::ExpertLoad>* WatchExpertLoad(
      grpc::CallbackServerContext* context, const v1::WatchExpertLoadRequest* request) override;
  grpc::ServerUnaryReactor* GetPlacement(grpc::CallbackServerContext* context,
                                         const v1::GetPlacementRequest* request,
                                         v1::Placement* response) override;
  grpc::ServerUnaryReactor* ValidatePlacement(grpc::CallbackServerContext* context,
                                              const v1::ValidatePlacementRequest* request,
                                              v1::ValidatePlacementResponse* response) override;
  grpc::ServerUnaryReactor* ApplyPlacement(grpc::CallbackServerContext* context,
                                           const v1::ApplyPlacementRequest* request,
                                           v1::ApplyPlacementResponse* response) override;
  grpc::ServerUnaryReactor* SetBalancing(grpc::CallbackServerContext* context,
                                         const v1::SetBalancingRequest* request,
                                         v1::SetBalancingResponse* response) override;
  grpc::ServerWriteReactor<v1::DrainResponse>* Drain(grpc::CallbackServerContext* context,
                                                     const v1::DrainRequest* request) override;

 private:
  ServiceParts* const parts_;
  std::mutex mutex_;
  std::optional<LoadHistory> history_;  // guarded by mutex_
};

}  // namespace ballast
