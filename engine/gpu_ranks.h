// Ranks of one process that are GPUs: what connects them.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "engine/comm/communicator.h"
#include "engine/comm/weight_exchange.h"
#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

// [ranks] of each.
struct GpuLinks {
  std::vector<std::unique_ptr<Communicator>> rows;
  std::vector<std::unique_ptr<WeightExchange>> weights;
};

// Joins GPUs 0 to ranks - 1 over NCCL, which wants a thread for each. Errors as
// MakeNcclCommunicator's (comm/nccl.h); DEADLINE_EXCEEDED when that takes longer than `limit`.
absl::StatusOr<GpuLinks> ConnectGpus(const Device& device, int ranks,
                                     std::chrono::milliseconds limit);

// Parts them, each in a thread of its own, for each waits for the others.
void Disconnect(GpuLinks links);

}  // namespace ballast
