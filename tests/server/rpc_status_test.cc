#include "server/rpc_status.h"

#include <string>

#include <gtest/gtest.h>

#include "engine/request.h"
#include "tests/server/error_details.h"

namespace ballast {
namespace {

TEST(RpcStatus, OkCarriesNothing) {
  const grpc::Status status = ToGrpc(absl::OkStatus());
  EXPECT_TRUE(status.ok());
  EXPECT_TRUE(status.error_details().empty());
}

TEST(RpcStatus, AFieldErrorCarriesBadRequest) {
  const grpc::Status status = ToGrpc(FieldError("sampling.top_p", "1.5", "(0, 1]"));
  EXPECT_EQ(FieldOf(status), "sampling.top_p");
  EXPECT_EQ(status.error_message(), "sampling.top_p: found 1.5, expected (0, 1]");
  const auto detail = DetailOf<google::rpc::BadRequest>(status);
  EXPECT_EQ(detail.field_violations(0).description(), status.error_message());
}

TEST(RpcStatus, AFullQueueSaysWhenToRetry) {
  const grpc::Status status = ToGrpc(absl::ResourceExhaustedError("full"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailOf<google::rpc::RetryInfo>(status).retry_delay().seconds(), 1);
}

TEST(RpcStatus, OtherErrorsGiveTheirReason) {
  EXPECT_EQ(ReasonOf(ToGrpc(WithReason(absl::UnavailableError("no"), "DRAINING"))), "DRAINING");
  EXPECT_EQ(ReasonOf(ToGrpc(absl::NotFoundError("no"))), "NOT_FOUND");
}

TEST(RpcStatus, TheFirstReasonStays) {
  const absl::Status status = WithReason(absl::UnavailableError("no"), "LOADING");
  EXPECT_EQ(ReasonOf(ToGrpc(WithReason(status, "DRAINING"))), "LOADING");
}

TEST(RpcStatus, LongMessagesAreCutBetweenCharacters) {
  std::string text = "x";
  while (text.size() < 100'000) text += "ä";
  const grpc::Status status = ToGrpc(absl::NotFoundError(text));
  EXPECT_LE(status.error_message().size(), 1027u);
  EXPECT_LE(status.error_details().size(), 2048u);
  const std::string message = status.error_message();
  EXPECT_EQ(message.substr(message.size() - 5), "ä...");
}

TEST(RpcStatus, EveryRefusalHasALabel) {
  EXPECT_EQ(RejectReason(FieldError("n", "0", "1")), "invalid");
  EXPECT_EQ(RejectReason(absl::NotFoundError("")), "not_found");
  EXPECT_EQ(RejectReason(absl::AlreadyExistsError("")), "duplicate");
  EXPECT_EQ(RejectReason(absl::ResourceExhaustedError("")), "queue_full");
  EXPECT_EQ(RejectReason(WithReason(absl::ResourceExhaustedError(""), "SLOW_READER")),
            "slow_reader");
  EXPECT_EQ(RejectReason(WithReason(absl::ResourceExhaustedError(""), "ANSWER_TOO_LARGE")),
            "answer_too_large");
  EXPECT_EQ(RejectReason(absl::UnavailableError("")), "draining");
  EXPECT_EQ(RejectReason(WithReason(absl::UnavailableError(""), "LOADING")), "loading");
  EXPECT_EQ(RejectReason(absl::FailedPreconditionError("")), "no_tokenizer");
  EXPECT_EQ(RejectReason(absl::UnauthenticatedError("")), "unauthenticated");
  EXPECT_EQ(RejectReason(absl::InternalError("")), "other");
}

}  // namespace
}  // namespace ballast
