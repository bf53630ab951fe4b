// What the commands that call a server share: connection, key, and how failures are told.
#pragma once

#include <memory>
#include <string>

#include <grpcpp/grpcpp.h>

#include "engine/status.h"

namespace ballast {

struct ClientOptions {
  std::string server = "127.0.0.1:7000";  // HOST:PORT
  std::string api_key_file;               // its first line with a key; empty: none is sent
  std::string tls_ca;                     // PEM; empty: plain text
};

// Calls may begin at once; whether the server is there is told by them. NOT_FOUND: no such file.
absl::StatusOr<std::shared_ptr<grpc::Channel>> Connect(const ClientOptions& options);

// Puts the key, if one is to be sent, into the metadata of a call.
absl::Status AddApiKey(const ClientOptions& options, grpc::ClientContext& context);

// Says on stderr why a command failed; returns kFailed.
int Fail(const char* command, const std::string& message);
// The same of a call that failed, details included.
int Fail(const char* command, const grpc::Status& status, const std::string& server);

}  // namespace ballast
