#include "server/rpc_status.h"

#include <string>

#include "absl/strings/cord.h"
#include "engine/request.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace ballast {
namespace {

constexpr char kReasonPayload[] = "ballast/reason";
constexpr char kDomain[] = "ballast";
constexpr size_t kMaxMessageBytes = 1024;
constexpr int kRetrySeconds = 1;

std::string Payload(const absl::Status& status, const char* name) {
  const auto payload = status.GetPayload(name);
  return payload.has_value() ? std::string(*payload) : std::string();
}

// Messages quote what clients sent, so they may be long and may hold anything.
std::string Shorten(const std::string& text) {
  if (text.size() <= kMaxMessageBytes) return text;
  size_t end = kMaxMessageBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

void Attach(const google::protobuf::Message& detail, google::rpc::Status* status) {
  status->add_details()->PackFrom(detail);
}

}  // namespace

absl::Status WithReason(absl::Status status, const char* reason) {
  if (!status.ok() && !status.GetPayload(kReasonPayload).has_value()) {
    status.SetPayload(kReasonPayload, absl::Cord(reason));
  }
  return status;
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const std::string message = Shorten(std::string(status.message()));
  google::rpc::Status details;
  details.set_code(static_cast<int>(status.code()));
  details.set_message(message);
  const std::string field = Payload(status, kFieldPayload);
  if (absl::IsInvalidArgument(status) && !field.empty()) {
    google::rpc::BadRequest bad_request;
    auto* violation = bad_request.add_field_violations();
    violation->set_field(field);
    violation->set_description(message);
    Attach(bad_request, &details);
  } else if (absl::IsResourceExhausted(status)) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(kRetrySeconds);
    Attach(retry, &details);
  } else {
    const std::string reason = Payload(status, kReasonPayload);
    google::rpc::ErrorInfo info;
    info.set_reason(reason.empty() ? absl::StatusCodeToString(status.code()) : reason);
    info.set_domain(kDomain);
    Attach(info, &details);
  }
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message,
                      details.SerializeAsString());
}

std::string_view RejectReason(const absl::Status& status) {
  const std::string reason = Payload(status, kReasonPayload);
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return "invalid";
    case absl::StatusCode::kNotFound:
      return "not_found";
    case absl::StatusCode::kAlreadyExists:
      return "duplicate";
    case absl::StatusCode::kResourceExhausted:
      if (reason == "SLOW_READER") return "slow_reader";
      return reason == "ANSWER_TOO_LARGE" ? "answer_too_large" : "queue_full";
    case absl::StatusCode::kUnavailable:
      return reason == "LOADING" ? "loading" : "draining";
    case absl::StatusCode::kFailedPrecondition:
      return "no_tokenizer";
    case absl::StatusCode::kUnauthenticated:
      return "unauthenticated";
    default:
      return "other";
  }
}

}  // namespace ballast
