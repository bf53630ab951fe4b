// engine/comm/nccl.h in a build without CUDA.
#include "engine/comm/nccl.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

TEST(NoNccl, SaysThatTheBuildHasNone) {
  const absl::Status missing = absl::UnimplementedError("this build has no NCCL (preset cuda has)");
  const std::chrono::milliseconds deadline(1);
  EXPECT_EQ(MakeNcclCommunicator({}, {}, deadline).status(), missing);
  EXPECT_EQ(MakeNcclWeights({}, {}, deadline).status(), missing);
}

}  // namespace
}  // namespace ballast
