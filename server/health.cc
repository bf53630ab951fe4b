#include "server/health.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc_status.h"

namespace ballast {
namespace {

using grpc::health::v1::HealthCheckResponse;

// One stream of Watch. The pump looks at it every tick and writes what changed.
class HealthWatch : public PumpedCall,
                    public grpc::ServerWriteReactor<HealthCheckResponse>,
                    public std::enable_shared_from_this<HealthWatch> {
 public:
  HealthWatch(const HealthService* service, bool known, CallPump* pump)
      : service_(service), known_(known), pump_(pump) {}

  bool Pump(std::chrono::steady_clock::time_point) override {
    {
      const std::lock_guard lock(mutex_);
      if (done_) return false;
      if (finished_ || (writing_ && !cancelled_)) return true;
    }
    Act();
    return true;
  }

  void OnWriteDone(bool) override { Change(&HealthWatch::writing_, false); }
  void OnCancel() override { Change(&HealthWatch::cancelled_, true); }
  void OnDone() override { Change(&HealthWatch::done_, true); }

 private:
  void Change(bool HealthWatch::*flag, bool value) {
    const std::lock_guard lock(mutex_);
    this->*flag = value;
    pump_->Wake(shared_from_this());
  }

  void Act() {
    std::unique_lock lock(mutex_);
    const bool closed = service_->closed();
    const HealthCheckResponse::ServingStatus status = !known_ ? HealthCheckResponse::SERVICE_UNKNOWN
                                                      : service_->serving()
                                                          ? HealthCheckResponse::SERVING
                                                          : HealthCheckResponse::NOT_SERVING;
    if (!cancelled_ && status != sent_) {
      sent_ = status;
      message_.set_status(status);
      writing_ = true;
      lock.unlock();
      StartWrite(&message_);
    } else if (cancelled_ || closed) {
      const bool cancelled = cancelled_;
      finished_ = true;
      lock.unlock();
      Finish(cancelled ? grpc::Status::CANCELLED
                       : ToGrpc(absl::UnavailableError("the server is stopping")));
    }
  }

  const HealthService* const service_;
  const bool known_;
  CallPump* const pump_;

  std::mutex mutex_;
  // Guarded by mutex_.
  bool writing_ = false;
  bool cancelled_ = false;
  bool done_ = false;

  // The pump's own; the message also gRPC's while it is written.
  bool finished_ = false;
  std::optional<HealthCheckResponse::ServingStatus> sent_;
  HealthCheckResponse message_;
};

}  // namespace

HealthService::HealthService(std::vector<std::string> services, CallPump* pump)
    : services_(std::move(services)), pump_(pump) {}

void HealthService::Set(bool serving) {
  if (closed_.load()) serving = false;
  if (serving_.exchange(serving) != serving) pump_->Tick();
}

void HealthService::Close() {
  closed_.store(true);
  serving_.store(false);
  pump_->Tick();
}

bool HealthService::Knows(const std::string& service) const {
  return service.empty() ||
         std::find(services_.begin(), services_.end(), service) != services_.end();
}

grpc::ServerUnaryReactor* HealthService::Check(grpc::CallbackServerContext* context,
                                               const grpc::health::v1::HealthCheckRequest* request,
                                               HealthCheckResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (!Knows(request->service())) {
    reactor->Finish(ToGrpc(WithReason(
        absl::NotFoundError(absl::StrCat("service: found \"", request->service(),
                                         "\", expected \"\" or the full name of a service")),
        "UNKNOWN_SERVICE")));
    return reactor;
  }
  response->set_status(serving() ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING);
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerWriteReactor<HealthCheckResponse>* HealthService::Watch(
    grpc::CallbackServerContext*, const grpc::health::v1::HealthCheckRequest* request) {
  const auto watch = std::make_shared<HealthWatch>(this, Knows(request->service()), pump_);
  pump_->Wake(watch);
  return watch.get();
}

}  // namespace ballast
