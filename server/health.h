// grpc.health.v1: whether requests are served, for whoever asks once (Check) or waits (Watch).
// https://github.com/grpc/grpc/blob/master/doc/health-checking.md
//
// Own rather than gRPC's: that one says SERVING before anybody could tell it otherwise, and its
// watchers hold up a shutdown.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include <grpcpp/support/server_callback.h>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/call_pump.h"

namespace ballast {

class HealthService : public grpc::health::v1::Health::CallbackService {
 public:
  // Answers for "" and for `services` (full names), all alike; NOT_SERVING at first.
  HealthService(std::vector<std::string> services, CallPump* pump);

  // Watchers hear of a change at the pump's next tick, which comes soon. Any thread.
  void Set(bool serving);
  bool serving() const { return serving_.load(); }
  // NOT_SERVING for good; watchers are told, and their streams end.
  void Close();
  bool closed() const { return closed_.load(); }

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const grpc::health::v1::HealthCheckRequest* request,
                                  grpc::health::v1::HealthCheckResponse* response) override;
  grpc::ServerWriteReactor<grpc::health::v1::HealthCheckResponse>* Watch(
      grpc::CallbackServerContext* context,
      const grpc::health::v1::HealthCheckRequest* request) override;

 private:
  bool Knows(const std::string& service) const;

  const std::vector<std::string> services_;
  CallPump* const pump_;
  std::atomic<bool> serving_ = false;
  std::atomic<bool> closed_ = false;
};

}  // namespace ballast
