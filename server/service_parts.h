// What the calls of one server share.
#pragma once

#include <atomic>
#include <chrono>
#include <string>

#include <grpcpp/server_context.h>

#include "engine/engine.h"
#include "server/auth.h"
#include "server/call_pump.h"
#include "server/grpc_server.h"
#include "server/text_worker.h"

namespace ballast {

struct ServiceParts {
  ApiKeys keys;
  GrpcEvents events;
  std::string version;
  std::chrono::milliseconds slow_reader_limit;
  std::chrono::milliseconds linger_limit;
  double drain_seconds = 30;           // of a Drain that names no deadline
  std::atomic<bool> stopping = false;  // streams that would go on for ever end
  // What the unary answers under way hold, in bytes of the wire.
  std::atomic<size_t> answer_bytes = 0;
  CallPump* pump = nullptr;
  TextWorker* text = nullptr;
  std::atomic<Engine*> engine = nullptr;  // null while the model loads

  // The engine, for a caller who may use it. UNAUTHENTICATED: no key or a wrong one; UNAVAILABLE:
  // still loading.
  absl::StatusOr<Engine*> Admit(const grpc::CallbackServerContext& context) const;
};

}  // namespace ballast
