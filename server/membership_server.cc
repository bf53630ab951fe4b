#include "server/membership_server.h"

#include <algorithm>
#include <utility>

#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>

#include "absl/strings/str_cat.h"
#include "ballast/v1/membership.grpc.pb.h"
#include "server/rpc_status.h"

namespace ballast {
namespace {

// Every rank waits in one call at a time; the rest is for those that are to be refused.
constexpr int kSpareThreads = 16;
constexpr std::chrono::minutes kMaxWait(10);
constexpr std::chrono::milliseconds kLastAnswers(200);

class MembershipService final : public v1::Membership::Service {
 public:
  MembershipService(uint64_t epoch, Membership& membership, MemoryRendezvous& rendezvous)
      : epoch_(epoch), membership_(membership), rendezvous_(rendezvous) {}

  grpc::Status Join(grpc::ServerContext* context, const v1::JoinRequest* request,
                    v1::JoinResponse* response) override {
    Joiner joiner;
    joiner.rank = request->rank();
    joiner.world_size = request->world_size();
    joiner.from = context->peer();
    for (const v1::JoinFact& fact : request->facts()) {
      joiner.facts.push_back({fact.name(), fact.value()});
    }
    if (const absl::Status status = membership_.Join(joiner); !status.ok()) return ToGrpc(status);
    const absl::Status all = membership_.AwaitAll([&] { return context->IsCancelled(); });
    if (absl::IsCancelled(all)) membership_.Leave(joiner.rank);
    response->set_epoch(epoch_);
    return ToGrpc(all);
  }

  grpc::Status SetValue(grpc::ServerContext*, const v1::SetValueRequest* request,
                        v1::SetValueResponse*) override {
    return ToGrpc(rendezvous_.Set(request->key(), request->value()));
  }

  grpc::Status GetValue(grpc::ServerContext*, const v1::GetValueRequest* request,
                        v1::GetValueResponse* response) override {
    const auto limit = std::clamp<std::chrono::milliseconds>(
        std::chrono::milliseconds(request->limit_ms()), std::chrono::milliseconds(0), kMaxWait);
    absl::StatusOr<std::string> value = rendezvous_.Get(request->key(), limit);
    if (!value.ok()) return ToGrpc(value.status());
    response->set_value(*std::move(value));
    return grpc::Status::OK;
  }

 private:
  const uint64_t epoch_;
  Membership& membership_;
  MemoryRendezvous& rendezvous_;
};

}  // namespace

struct MembershipServer::Parts {
  Parts(uint64_t epoch, Membership& members, MemoryRendezvous& values)
      : membership(members), rendezvous(values), service(epoch, members, values) {}

  Membership& membership;
  MemoryRendezvous& rendezvous;
  MembershipService service;
  std::unique_ptr<grpc::Server> server;
};

absl::StatusOr<std::unique_ptr<MembershipServer>> MembershipServer::Start(
    const std::string& address, int world_size, uint64_t epoch, Membership& membership,
    MemoryRendezvous& rendezvous) {
  auto parts = std::make_unique<Parts>(epoch, membership, rendezvous);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&parts->service);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  grpc::ResourceQuota quota("membership");
  quota.SetMaxThreads(2 * world_size + kSpareThreads);
  builder.SetResourceQuota(quota);
  parts->server = builder.BuildAndStart();
  if (parts->server == nullptr || port == 0) {
    return absl::UnavailableError(
        absl::StrCat("--leader ", address,
                     ": cannot listen there; expected a free HOST:PORT of this machine, for it is "
                     "rank 0"));
  }
  return std::unique_ptr<MembershipServer>(new MembershipServer(std::move(parts)));
}

MembershipServer::MembershipServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

MembershipServer::~MembershipServer() {
  const absl::Status over = absl::UnavailableError("the leader has stopped");
  parts_->membership.Fail(over);
  parts_->rendezvous.Fail(over);
  parts_->server->Shutdown(std::chrono::system_clock::now() + kLastAnswers);
  parts_->server->Wait();
}

}  // namespace ballast
