#include "server/client.h"

#include <cstdio>
#include <fstream>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/commands.h"
#include "server/units.h"

namespace ballast {
namespace {

absl::StatusOr<std::string> ReadFile(const std::string& flag, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file || text.str().empty()) {
    return absl::NotFoundError(absl::StrCat(flag, ": cannot read '", path, "'"));
  }
  return text.str();
}

// The first line that holds a key; the server's own file may serve.
absl::StatusOr<std::string> ReadApiKey(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile("--api-key-file", path));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::string key(absl::StripAsciiWhitespace(line));
    if (!key.empty() && key[0] != '#') return key;
  }
  return absl::InvalidArgumentError(absl::StrCat("--api-key-file: found no key in '", path, "'"));
}

void PrintDetails(const std::string& serialized) {
  google::rpc::Status status;
  if (!status.ParseFromString(serialized)) return;
  for (const google::protobuf::Any& detail : status.details()) {
    google::rpc::BadRequest bad_request;
    google::rpc::ErrorInfo info;
    google::rpc::RetryInfo retry;
    if (detail.UnpackTo(&bad_request)) {
      for (const auto& violation : bad_request.field_violations()) {
        const std::string& description = violation.description();
        // Ours begin with the path already.
        const bool named = absl::StartsWith(description, violation.field() + ":");
        std::fprintf(stderr, "  field %s%s\n",
                     named ? "" : absl::StrCat(violation.field(), ": ").c_str(),
                     description.c_str());
      }
    } else if (detail.UnpackTo(&info)) {
      std::fprintf(stderr, "  reason %s\n", info.reason().c_str());
    } else if (detail.UnpackTo(&retry)) {
      const double seconds = static_cast<double>(retry.retry_delay().seconds()) +
                             static_cast<double>(retry.retry_delay().nanos()) * 1e-9;
      std::fprintf(stderr, "  try again in %s\n", FormatSeconds(seconds).c_str());
    }
  }
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> Connect(const ClientOptions& options) {
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (!options.tls_ca.empty()) {
    grpc::SslCredentialsOptions tls;
    ASSIGN_OR_RETURN(tls.pem_root_certs, ReadFile("--tls-ca", options.tls_ca));
    credentials = grpc::SslCredentials(tls);
  }
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomChannel(options.server, credentials, arguments);
}

absl::Status AddApiKey(const ClientOptions& options, grpc::ClientContext& context) {
  if (options.api_key_file.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string key, ReadApiKey(options.api_key_file));
  context.AddMetadata("authorization", "Bearer " + key);
  return absl::OkStatus();
}

int Fail(const char* command, const std::string& message) {
  std::fprintf(stderr, "ballast %s: %s\n", command, message.c_str());
  return kFailed;
}

int Fail(const char* command, const grpc::Status& status, const std::string& server) {
  // Our server gives every error details; this one comes from the way there.
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && status.error_details().empty()) {
    return Fail(command, absl::StrCat("no connection to the server at ", server, ": ",
                                      status.error_message()));
  }
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  Fail(command, absl::StrCat(absl::StatusCodeToString(code), ": ", status.error_message()));
  PrintDetails(status.error_details());
  return kFailed;
}

}  // namespace ballast
