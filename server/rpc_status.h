// Errors on the wire: absl::Status -> grpc::Status with google.rpc details. The only place that
// knows them.
#pragma once

#include <string_view>

#include <grpcpp/support/status.h>

#include "engine/status.h"

namespace ballast {

// Names the reason of an error for ErrorInfo: UPPER_SNAKE_CASE, stable. Keeps one that is there.
absl::Status WithReason(absl::Status status, const char* reason);

// INVALID_ARGUMENT with a field (kFieldPayload) carries BadRequest, RESOURCE_EXHAUSTED carries
// RetryInfo (one second), every other error ErrorInfo with its reason, or its code's name where
// nobody gave one. Messages beyond 1 KiB are cut: they travel in HTTP/2 trailers, which clients
// bound to 8 KiB.
grpc::Status ToGrpc(const absl::Status& status);

// The label of ballast_requests_rejected_total.
std::string_view RejectReason(const absl::Status& status);

}  // namespace ballast
