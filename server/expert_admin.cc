#include "server/expert_admin.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/request.h"
#include "server/expert_convert.h"
#include "server/expert_streams.h"
#include "server/rpc_status.h"

namespace ballast {
namespace {

double Seconds(ExpertAdminService::Clock::time_point time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

grpc::ServerUnaryReactor* FinishAtOnce(grpc::CallbackServerContext* context,
                                       const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

// ValidatePlacement and ApplyPlacement: ends when the engine says so, whether or not the client
// still waits.
class PlacementCall : public grpc::ServerUnaryReactor {
 public:
  // `fill`: puts the change into the response, which gRPC keeps until Finish.
  PlacementCall(const ServiceParts* parts, std::function<void(const PlacementChange&)> fill)
      : parts_(parts), fill_(std::move(fill)) {}

  void Start(Engine* engine, PlacementRequest request) {
    const bool dry_run = request.dry_run;
    engine->ApplyPlacement(std::move(request),
                           [this, dry_run](const absl::StatusOr<PlacementChange>& change) {
                             if (change.ok()) {
                               fill_(*change);
                               if (!dry_run) Tell(*change);
                             }
                             Finish(ToGrpc(change.status()));
                           });
  }

  void OnDone() override { delete this; }

 private:
  void Tell(const PlacementChange& change) const {
    if (!parts_->events.on_admin) return;
    parts_->events.on_admin("placement applied",
                            absl::StrCat("version ", change.version, ", ", change.slot_moves,
                                         " slot moves, ", change.bytes, " bytes"));
  }

  const ServiceParts* const parts_;
  const std::function<void(const PlacementChange&)> fill_;
};

template <typename PlacementMessage, typename Response>
grpc::ServerUnaryReactor* ChangePlacement(const ServiceParts* parts,
                                          grpc::CallbackServerContext* context,
                                          const PlacementMessage& message, bool dry_run,
                                          Response* response) {
  const absl::StatusOr<Engine*> engine = parts->Admit(*context);
  if (!engine.ok()) return FinishAtOnce(context, engine.status());
  absl::StatusOr<PlacementRequest> request = ToPlacementRequest(
      message.placement(), message.expected_version(), dry_run, (*engine)->info());
  if (!request.ok()) return FinishAtOnce(context, request.status());
  auto* call = new PlacementCall(
      parts, [response](const PlacementChange& change) { Fill(change, response); });
  call->Start(*engine, *std::move(request));
  return call;
}

}  // namespace

void ExpertAdminService::Tick(Clock::time_point now) {
  const Engine* engine = parts_->engine.load(std::memory_order_acquire);
  if (engine == nullptr) return;
  const std::lock_guard lock(mutex_);
  if (!history_.has_value()) history_.emplace(Seconds(now));
  if (history_->Due(Seconds(now))) history_->Add(Seconds(now), engine->GetExpertLoad());
}

grpc::ServerUnaryReactor* ExpertAdminService::GetExpertLoad(grpc::CallbackServerContext* context,
                                                            const v1::GetExpertLoadRequest* request,
                                                            v1::ExpertLoad* response) {
  const absl::StatusOr<Engine*> engine = parts_->Admit(*context);
  if (!engine.ok()) return FinishAtOnce(context, engine.status());
  const absl::Status valid = CheckSeconds(request->window_s(), LoadHistory::kMaxWindow, "window_s");
  if (!valid.ok()) return FinishAtOnce(context, valid);
  const Clock::time_point now = Clock::now();
  Tick(now);  // the first call may come before the first tick
  const ExpertLoad load = (*engine)->GetExpertLoad();
  {
    const std::lock_guard lock(mutex_);
    *response = ToMessage(history_->Window(Seconds(now), load, request->window_s()),
                          (*engine)->Balancing());
  }
  return FinishAtOnce(context, absl::OkStatus());
}

grpc::ServerWriteReactor<v1::ExpertLoad>* ExpertAdminService::WatchExpertLoad(
    grpc::CallbackServerContext* context, const v1::WatchExpertLoadRequest* request) {
  const uint32_t interval =
      request->has_interval_ms() ? request->interval_ms() : kDefaultIntervalMs;
  absl::StatusOr<Engine*> engine = parts_->Admit(*context);
  if (engine.ok() && (interval < kMinIntervalMs || interval > kMaxIntervalMs)) {
    engine = FieldError("interval_ms", absl::StrCat(interval),
                        absl::StrCat(kMinIntervalMs, " to ", kMaxIntervalMs));
  }
  const auto stream = std::make_shared<LoadStream>(parts_, context, std::move(engine),
                                                   std::chrono::milliseconds(interval));
  stream->Start();
  return stream.get();
}

grpc::ServerUnaryReactor* ExpertAdminService::GetPlacement(grpc::CallbackServerContext* context,
                                                           const v1::GetPlacementRequest*,
                                                           v1::Placement* response) {
  const absl::StatusOr<Engine*> engine = parts_->Admit(*context);
  if (!engine.ok()) return FinishAtOnce(context, engine.status());
  *response = ToMessage((*engine)->GetPlacement(), (*engine)->info().config);
  return FinishAtOnce(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* ExpertAdminService::ValidatePlacement(
    grpc::CallbackServerContext* context, const v1::ValidatePlacementRequest* request,
    v1::ValidatePlacementResponse* response) {
  return ChangePlacement(parts_, context, *request, /*dry_run=*/true, response);
}

grpc::ServerUnaryReactor* ExpertAdminService::ApplyPlacement(
    grpc::CallbackServerContext* context, const v1::ApplyPlacementRequest* request,
    v1::ApplyPlacementResponse* response) {
  return ChangePlacement(parts_, context, *request, request->dry_run(), response);
}

grpc::ServerUnaryReactor* ExpertAdminService::SetBalancing(grpc::CallbackServerContext* context,
                                                           const v1::SetBalancingRequest* request,
                                                           v1::SetBalancingResponse* response) {
  const absl::StatusOr<Engine*> engine = parts_->Admit(*context);
  if (!engine.ok()) return FinishAtOnce(context, engine.status());
  const BalancingState state = (*engine)->SetPaused(request->paused());
  response->set_paused(state.paused);
  response->set_mode(state.mode);
  if (parts_->events.on_admin) {
    parts_->events.on_admin(state.paused ? "balancing paused" : "balancing resumed", state.mode);
  }
  return FinishAtOnce(context, absl::OkStatus());
}

grpc::ServerWriteReactor<v1::DrainResponse>* ExpertAdminService::Drain(
    grpc::CallbackServerContext* context, const v1::DrainRequest* request) {
  const double limit = request->has_deadline_s() ? request->deadline_s() : parts_->drain_seconds;
  absl::StatusOr<Engine*> engine = parts_->Admit(*context);
  if (engine.ok()) {
    const absl::Status valid = CheckSeconds(limit, kMaxDeadlineSeconds, "deadline_s");
    if (!valid.ok()) engine = valid;
  }
  const auto stream = std::make_shared<DrainStream>(parts_, context, std::move(engine), limit);
  stream->Start();
  return stream.get();
}

}  // namespace ballast
