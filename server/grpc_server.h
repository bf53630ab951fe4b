// The gRPC face of the engine: ballast.v1.TextGeneration, grpc.health.v1 and reflection, on one
// port, in plain text or TLS.
//
// It listens before there is an engine: health answers NOT_SERVING and every call UNAVAILABLE
// until SetEngine. Order of an ending: Engine::StartDrain, SetServing(false), wait for the engine
// to run dry or FailAll, Shutdown, and only then may the engine go.
#pragma once

#include <chrono>
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
};

// Hooks for metrics; all optional, called from any thread.
struct GrpcEvents {
  // A Generate or GenerateStream that failed for a reason of the server's or the client's making:
  // one of "invalid", "not_found", "duplicate", "queue_full", "slow_reader", "draining", "loading",
  // "no_tokenizer", "unauthenticated", "other".
  std::function<void(std::string_view reason)> on_rejected;
};

class GrpcServer {
 public:
  // Listens. Errors: INVALID_ARGUMENT for options that contradict each other, NOT_FOUND or
  // INVALID_ARGUMENT for files, UNAVAILABLE when the address cannot be listened on.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const GrpcOptions& options,
                                                           GrpcEvents events);
  // As Shutdown with no time left.
  virtual ~GrpcServer() = default;

  virtual const std::string& address() const = 0;  // HOST:PORT, the port as picked
  virtual int port() const = 0;

  // The model is loaded: calls go to the engine from now on, and health may say SERVING. Once. The
  // engine must live until Shutdown has returned.
  virtual void SetEngine(Engine* engine) = 0;

  // Health's wish, true at first. Health says SERVING while this is true, there is an engine, and
  // it is progressing and not draining; looked at four times a second.
  virtual void SetServing(bool serving) = 0;
  virtual bool serving() const = 0;  // what health said last

  // Takes no more calls, gives those that run so long to end, then cancels them; returns when none
  // is left. Any thread; later calls wait for the first.
  virtual void Shutdown(std::chrono::milliseconds limit) = 0;
};

}  // namespace ballast
