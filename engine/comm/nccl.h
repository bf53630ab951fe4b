// Ranks as GPUs, in one process or in many: rows, counts and weights travel over NCCL
// (https://docs.nvidia.com/deeplearning/nccl). A build without CUDA has these functions too: they
// return UNIMPLEMENTED.
//
// No call waits without asking whether the others still live: every wait polls, up to a deadline.
// What fails is revoked at once, so that nothing of it stays on the GPU, whose memory could not be
// freed while it does. Who has several of these on one GPU and hears that a rank is lost therefore
// fails all of them before it destroys one.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>

#include "engine/comm/rendezvous.h"
#include "engine/comm/stamp.h"
#include "engine/comm/weight_exchange.h"
#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

// Who meets, where, and how long that may take.
struct NcclMeeting {
  int rank = 0;
  int size = 1;
  int unit = 0;         // the rank's GPU; no two ranks share one
  std::string purpose;  // "rows"; names the communicator
  std::string prefix;   // of all keys; another one for every new attempt
  Rendezvous* rendezvous = nullptr;
  std::chrono::milliseconds limit{std::chrono::minutes(1)};
};

// One thread at a time, but for Fail. Rows of a rank's own are pointed to; others' lie in buffers
// that grow to the largest exchange so far (RESOURCE_EXHAUSTED). A call returns when its bytes have
// come; one that is not met by all within the deadline is DEADLINE_EXCEEDED, and does not say by
// whom. Destroying it waits shortly for the others to do so too: each in the thread of its rank.
class NcclCommunicator : public StampedCommunicator {
 public:
  // The ranks that are left, renumbered in order, without those of `lost`. All of them call it with
  // the same list, failed or not; this communicator is dead from then on. Any error: meet anew.
  virtual absl::StatusOr<std::unique_ptr<NcclCommunicator>> Shrink(
      std::span<const int> lost, std::chrono::milliseconds limit) = 0;
};

// Collective: every rank makes the same ones in the same order. `device` is FindGpus()'s and
// outlives them. DEADLINE_EXCEEDED: not all came within the meeting's limit; INVALID_ARGUMENT: what
// NCCL refuses, such as two ranks on one GPU; FAILED_PRECONDITION: an NCCL that is too old.
absl::StatusOr<std::unique_ptr<NcclCommunicator>> MakeNcclCommunicator(
    const NcclMeeting& meeting, const Device& device, std::chrono::milliseconds deadline);
// Weights go over a communicator and a stream of their own: rows do not wait for them.
absl::StatusOr<std::unique_ptr<WeightExchange>> MakeNcclWeights(const NcclMeeting& meeting,
                                                                const Device& device,
                                                                std::chrono::milliseconds deadline);

}  // namespace ballast
