#include "server/auth.h"

#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace ballast {
namespace {

// Certificates and keys are a few KiB; a bundle of every public authority is 200 KiB.
constexpr size_t kMaxFileBytes = 4 << 20;

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  std::string contents(kMaxFileBytes + 1, '\0');
  file.read(contents.data(), static_cast<std::streamsize>(contents.size()));
  contents.resize(static_cast<size_t>(file.gcount()));
  if (contents.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": found more than ", kMaxFileBytes, " bytes, expected a few lines"));
  }
  return contents;
}

absl::StatusOr<std::string> ReadPem(const std::string& path, const char* what) {
  ASSIGN_OR_RETURN(std::string contents, ReadSmallFile(path));
  if (!absl::StrContains(contents, "-----BEGIN ")) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": found no PEM block, expected ", what, " in PEM form"));
  }
  return contents;
}

bool Equal(const std::string& candidate, const std::string& key) {
  volatile unsigned difference = candidate.size() == key.size() ? 0 : 1;
  for (size_t i = 0; i < candidate.size(); ++i) {
    const char expected = key[i % key.size()];
    difference = difference | static_cast<unsigned char>(candidate[i] ^ expected);
  }
  return difference == 0;
}

}  // namespace

absl::StatusOr<ApiKeys> ApiKeys::Read(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string contents, ReadSmallFile(path));
  return Parse(contents, path);
}

absl::StatusOr<ApiKeys> ApiKeys::Parse(const std::string& contents, const std::string& path) {
  ApiKeys keys;
  int number = 0;
  std::istringstream lines(contents);
  for (std::string line; std::getline(lines, line);) {
    ++number;
    absl::StripAsciiWhitespace(&line);
    if (line.empty() || line[0] == '#') continue;
    for (const char c : line) {
      if (absl::ascii_isgraph(static_cast<unsigned char>(c))) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", number,
                       ": found a key with blanks or characters outside ASCII, expected one key of "
                       "visible ASCII characters a line"));
    }
    keys.keys_.push_back(std::move(line));
  }
  if (keys.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": found no key, expected one a line"));
  }
  return keys;
}

bool ApiKeys::Accept(std::string_view authorization) const {
  if (keys_.empty()) return true;
  const std::string header(authorization);
  const std::string scheme = "bearer ";
  if (!absl::StartsWithIgnoreCase(header, scheme)) return false;
  const std::string candidate(absl::StripAsciiWhitespace(header.substr(scheme.size())));
  bool found = false;
  for (const std::string& key : keys_) found |= Equal(candidate, key);
  return found;
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ReadCredentials(
    const std::string& tls_cert, const std::string& tls_key, const std::string& tls_client_ca) {
  if (tls_cert.empty() && tls_key.empty() && tls_client_ca.empty()) {
    return grpc::InsecureServerCredentials();
  }
  if (tls_cert.empty() || tls_key.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(tls_cert.empty() ? "--tls-cert" : "--tls-key",
                     ": found nothing, expected a file: TLS needs --tls-cert and --tls-key both"));
  }
  ASSIGN_OR_RETURN(std::string cert, ReadPem(tls_cert, "a certificate chain"));
  ASSIGN_OR_RETURN(std::string key, ReadPem(tls_key, "a private key"));
  grpc::SslServerCredentialsOptions options;
  if (!tls_client_ca.empty()) {
    ASSIGN_OR_RETURN(options.pem_root_certs, ReadPem(tls_client_ca, "certificates"));
    options.client_certificate_request = GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  }
  options.pem_key_cert_pairs.push_back({std::move(key), std::move(cert)});
  return grpc::SslServerCredentials(options);
}

}  // namespace ballast
