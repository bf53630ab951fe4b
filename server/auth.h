// Who may call: API keys and TLS certificates, read from files once.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <grpcpp/security/server_credentials.h>

#include "engine/status.h"

namespace ballast {

// Immutable; any thread.
class ApiKeys {
 public:
  // No keys: everybody may call.
  ApiKeys() = default;
  // One key a line; blank lines and those that begin with '#' are skipped. INVALID_ARGUMENT when
  // the file holds no key, or one that no HTTP header could carry.
  static absl::StatusOr<ApiKeys> Read(const std::string& path);
  static absl::StatusOr<ApiKeys> Parse(const std::string& contents, const std::string& path);

  bool empty() const { return keys_.empty(); }
  // `authorization` is the header's value, "Bearer KEY". The time taken does not depend on how much
  // of a key was right.
  bool Accept(std::string_view authorization) const;

 private:
  std::vector<std::string> keys_;
};

// Plain text when all three are empty; see GrpcOptions. Errors name the file or the option.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ReadCredentials(
    const std::string& tls_cert, const std::string& tls_key, const std::string& tls_client_ca);

}  // namespace ballast
