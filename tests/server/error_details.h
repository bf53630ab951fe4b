// Reads the google.rpc details of an error, as a client would.
#pragma once

#include <string>

#include <grpcpp/support/status.h>
#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace ballast {

// The one detail of an error, when it is of this type; else an empty message.
template <typename Detail>
Detail DetailOf(const grpc::Status& status) {
  google::rpc::Status details;
  Detail detail;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), static_cast<int>(status.error_code()));
  EXPECT_EQ(details.message(), status.error_message());
  EXPECT_EQ(details.details_size(), 1);
  if (details.details_size() == 1) {
    EXPECT_TRUE(details.details(0).UnpackTo(&detail)) << details.DebugString();
  }
  return detail;
}

inline std::string FieldOf(const grpc::Status& status) {
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
  const auto detail = DetailOf<google::rpc::BadRequest>(status);
  return detail.field_violations_size() == 1 ? detail.field_violations(0).field() : "";
}

inline std::string ReasonOf(const grpc::Status& status) {
  const auto detail = DetailOf<google::rpc::ErrorInfo>(status);
  EXPECT_EQ(detail.domain(), "ballast");
  return detail.reason();
}

}  // namespace ballast
