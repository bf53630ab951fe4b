#include "server/grpc_server.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <mutex>
#include <utility>

#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>

#include "absl/strings/str_cat.h"
#include "server/auth.h"
#include "server/call_pump.h"
#include "server/expert_admin.h"
#include "server/grpc_service.h"
#include "server/health.h"
#include "server/listener.h"
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
// For connections to see what was written last, and that they shall close.
constexpr std::chrono::milliseconds kGoodbye{250};
// Reflection is the one service whose streams hold a thread each.
constexpr int kMaxSyncThreads = 32;

// Whether gRPC can serve with them: that a key fits its certificate shows only here.
absl::Status TryCredentials(const std::shared_ptr<grpc::ServerCredentials>& credentials,
                            const GrpcOptions& options) {
  if (options.tls_cert.empty()) return absl::OkStatus();
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", credentials, &port);
  if (builder.BuildAndStart() != nullptr && port != 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--tls-cert ", options.tls_cert,
                                                 ": not a certificate that fits the key in ",
                                                 options.tls_key));
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
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> connections;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<Listener> listener;
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
  RETURN_IF_ERROR(TryCredentials(credentials, options));
  ASSIGN_OR_RETURN(std::unique_ptr<Listener> listener, Listener::Open("--grpc", options.address));
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
  parts->connections = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials);
  builder.RegisterService(&parts->health);
  builder.RegisterService(&parts->text_generation);
  builder.RegisterService(&parts->expert_admin);
  builder.SetMaxReceiveMessageSize(kMaxReceivedBytes);
  builder.SetMaxSendMessageSize(-1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kClientPingMs);
  grpc::ResourceQuota quota("ballast");
  quota.SetMaxThreads(kMaxSyncThreads);
  builder.SetResourceQuota(quota);
  parts->server = builder.BuildAndStart();
  if (parts->server == nullptr) {
    return absl::UnavailableError(absl::StrCat("--grpc ", options.address, ": gRPC cannot serve"));
  }
  parts->listener = std::move(listener);
  parts->listener->Start([connections = parts->connections.get()](int descriptor) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
    connection.fd = descriptor;
    connections->HandleNewConnection(&connection);
  });
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(parts)));
}

GrpcServer::GrpcServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

GrpcServer::~GrpcServer() { Shutdown(std::chrono::milliseconds(0)); }

const std::string& GrpcServer::address() const { return parts_->listener->address(); }

int GrpcServer::port() const { return parts_->listener->port(); }

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
  parts_->listener->Stop();
  const auto until = std::chrono::steady_clock::now() + limit;
  const std::future<void> down = std::async(std::launch::async, [this, limit] {
    parts_->server->Shutdown(std::chrono::system_clock::now() + limit);
  });
  // gRPC waits for connections, also for those that say nothing. With all calls over they are cut.
  const bool all_over = parts_->pump.AwaitNone(until);
  parts_->text.Finish();
  if (all_over && down.wait_for(kGoodbye) == std::future_status::timeout) {
    grpc_server_cancel_all_calls(parts_->server->c_server());
  }
  down.wait();
  parts_->server->Wait();
  parts_->pump.Finish();
}

}  // namespace ballast
