// engine/comm/nccl.h for a build without CUDA.
#include "engine/comm/nccl.h"

namespace ballast {
namespace {

absl::Status Missing() {
  return absl::UnimplementedError("this build has no NCCL (preset cuda has)");
}

}  // namespace

absl::StatusOr<std::unique_ptr<NcclCommunicator>> MakeNcclCommunicator(
    const NcclMeeting& /*meeting*/, const Device& /*device*/,
    std::chrono::milliseconds /*deadline*/) {
  return Missing();
}

absl::StatusOr<std::unique_ptr<WeightExchange>> MakeNcclWeights(
    const NcclMeeting& /*meeting*/, const Device& /*device*/,
    std::chrono::milliseconds /*deadline*/) {
  return Missing();
}

}  // namespace ballast
