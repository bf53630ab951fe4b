#include "server/grpc_server.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/auth.h"
#include "server/call_pump.h"
#include "server/expert_admin.h"
#include "server/grpc_service.h"
#include "server/health.h"
#include "server/service_parts.h"
#include "server/text_worker.h"

namespace ballast {
namespace {

constexpr int kMaxReceivedBytes = 64 << 20;
constexpr std::chrono::milliseconds kTickPeriod{250};
// A client that vanished without a word is found by pings, so that its streams do not wait for TCP.
constexpr int kKeepaliveMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
constexpr int kClientPingMs = 10'000;  // clients may ping as often without being cut off
// Reflection is the one service whose streams hold a thread each.
constexpr int kMaxSyncThreads = 32;

std::string PickedAddress(const std::string& address, int port) {
  if (absl::StartsWith(address, "unix")) return address;
  return absl::StrCat(address.substr(0, address.rfind(':')), ":", port);
}

}  // namespace

struct GrpcServer::Parts {
  explicit Parts(std::chrono::milliseconds tick)
      : pump(tick, [this] { Tick(); }),
        health({v1::TextGeneration::service_full_name(), v1::ExpertAdmin::service_full_name()},
               &pump),
        text_generation(&service),
        expert_admin(&service) {}

  void Tick() {
    UpdateHealth();
    expert_admin.Tick(std::chrono::steady_clock::now());
  }

  void UpdateHealth() {
    const Engine* engine = service.engine.load(std::memory_order_acquire);
    bool serving = wished.load() && engine != nullptr;
    if (serving) {
      const EngineStats stats = engine->Stats();
      serving = stats.progressing && !stats.draining;
    }
    health.Set(serving);
  }

  ServiceParts service;
  TextWorker text;
  std::atomic<bool> wished = true;
  CallPump pump;
  HealthService health;
  TextGenerationService text_generation;
  ExpertAdminService expert_admin;
  std::unique_ptr<grpc::Server> server;
  std::string address;
  int port = 0;
  std::mutex shutdown;
  bool down = false;  // guarded by shutdown
};

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const GrpcOptions& options,
                                                              GrpcEvents events) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ServerCredentials> credentials,
                   ReadCredentials(options.tls_cert, options.tls_key, options.tls_client_ca));
  ApiKeys keys;
  if (!options.api_key_file.empty()) {
    ASSIGN_OR_RETURN(keys, ApiKeys::Read(options.api_key_file));
  }
  auto parts = std::make_unique<Parts>(
      std::clamp(std::min(options.slow_reader_limit, options.linger_limit) / 4,
                 std::chrono::milliseconds(1), kTickPeriod));
  parts->service.keys = std::move(keys);
  parts->service.events = std::move(events);
  parts->service.version = options.version;
  parts->service.slow_reader_limit = options.slow_reader_limit;
  parts->service.linger_limit = options.linger_limit;
  parts->service.drain_seconds = options.drain_seconds;
  parts->service.pump = &parts->pump;
  parts->service.text = &parts->text;
  parts->pump.Start();

  // Named here, not left to the library's static initialiser, which a linker may drop.
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.AddListeningPort(options.address, credentials, &parts->port);
  builder.RegisterService(&parts->health);
  builder.RegisterService(&parts->text_generation);
  builder.RegisterService(&parts->expert_admin);
  builder.SetMaxReceiveMessageSize(kMaxReceivedBytes);
  builder.SetMaxSendMessageSize(-1);
  // Two servers on one port would share its connections without a word.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kClientPingMs);
  grpc::ResourceQuota quota("ballast");
  quota.SetMaxThreads(kMaxSyncThreads);
  builder.SetResourceQuota(quota);
  parts->server = builder.BuildAndStart();
  if (parts->server == nullptr || parts->port == 0) {
    return absl::UnavailableError(
        absl::StrCat("--grpc ", options.address,
                     ": cannot listen there; expected a free HOST:PORT of this machine",
                     options.tls_cert.empty() ? "" : ", and a certificate that fits its key"));
  }
  parts->address = PickedAddress(options.address, parts->port);
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(parts)));
}

GrpcServer::GrpcServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

GrpcServer::~GrpcServer() { Shutdown(std::chrono::milliseconds(0)); }

const std::string& GrpcServer::address() const { return parts_->address; }

int GrpcServer::port() const { return parts_->port; }

void GrpcServer::SetEngine(Engine* engine) {
  parts_->service.engine.store(engine, std::memory_order_release);
  parts_->pump.Tick();
}

void GrpcServer::SetServing(bool serving) {
  parts_->wished.store(serving);
  if (!serving) parts_->health.Set(false);
  parts_->pump.Tick();
}

bool GrpcServer::serving() const { return parts_->health.serving(); }

void GrpcServer::Shutdown(std::chrono::milliseconds limit) {
  const std::lock_guard lock(parts_->shutdown);
  if (parts_->down) return;
  parts_->down = true;
  parts_->service.stopping = true;
  parts_->health.Close();  // and a tick, for streams to see it
  parts_->server->Shutdown(std::chrono::system_clock::now() + limit);
  parts_->server->Wait();
  parts_->text.Finish();
  parts_->pump.Finish();
}

}  // namespace ballast
