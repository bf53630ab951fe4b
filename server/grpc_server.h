// The gRPC face of the engine: ballast.v1.TextGeneration and ExpertAdmin, grpc.health.v1 and
// reflection, on one port, in plain text or TLS.
//
// It listens before there is an engine: health answers NOT_SERVING and every call UNAVAILABLE
// until SetEngine. Order of an ending: Engine::StartDrain, SetServing(false), wait for the engine
// to run dry or FailAll, Shutdown, and only then may the engine go.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "engine/engine.h"
#include "engine/status.h"

namespace ballast {

struct GrpcOptions {
  std::string address = "127.0.0.1:7000";  // port 0 picks a free one
  std::string version;                     // Ballast's, for GetModelInfo
  // Files; empty: plain text. tls_cert and tls_key come together (PEM); with tls_client_ca clients
  // must show a certificate that it signed.
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  // A file of API keys, one a line, '#' begins a comment; empty: no key is asked for. Health and
  // reflection are exempt.
  std::string api_key_file;
  // A stream whose client has not taken a chunk for so long is aborted.
  std::chrono::milliseconds slow_reader_limit = std::chrono::seconds(30);
  // An ended call whose client has not taken what is left, its status included, for so long is cut.
  std::chrono::milliseconds linger_limit = std::chrono::seconds(30);
  // How long a Drain that names no deadline lets requests run.
  double drain_seconds = 30;
};

// Hooks for metrics and logs; all optional, called from any thread.
struct GrpcEvents {
  // A Generate or GenerateStream that failed: one of "invalid", "not_found", "duplicate",
  // "queue_full", "slow_reader", "draining", "loading", "no_tokenizer", "unauthenticated", "other".
  // Calls that the client cancelled, or whose deadline passed, are not among them.
  std::function<void(std::string_view reason)> on_rejected;
  // The seed drawn for a request that samples and named none; with it, the answer can be repeated.
  std::function<void(std::string_view request_id, uint64_t seed)> on_seed_drawn;
  // ExpertAdmin changed something: what ("placement applied"), and in detail.
  std::function<void(std::string_view event, std::string_view detail)> on_admin;
};

class GrpcServer {
 public:
  // Listens. Errors: INVALID_ARGUMENT for options that contradict each other and for what stands in
  // files, NOT_FOUND for files that are missing, UNAVAILABLE when the address is taken.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const GrpcOptions& options,
                                                           GrpcEvents events);
  // As Shutdown with no time left.
  ~GrpcServer();

  const std::string& address() const;  // HOST:PORT, the port as picked
  int port() const;

  // The model is loaded: calls go to the engine from now on, and health may say SERVING. Once. The
  // engine must live until Shutdown has returned, and until it calls back no more.
  void SetEngine(Engine* engine);

  // What health is wished to say, true at first. It says SERVING while this is true, there is an
  // engine, and that is progressing and not draining; looked at four times a second.
  void SetServing(bool serving);
  bool serving() const;  // what health says

  // Takes no more calls, gives those that run so long to end, then cancels them; returns when none
  // is left. Any thread; later calls wait for the first.
  void Shutdown(std::chrono::milliseconds limit);

 private:
  struct Parts;
  explicit GrpcServer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace ballast
