// Ranks as threads of one process: memory is shared, so rows are not copied, only pointed to.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "engine/comm/communicator.h"

namespace ballast {

// One communicator per rank; hand each to its thread. A rank that does not come to a call within
// `deadline` fails it for all. They share state, which lives as long as any of them.
std::vector<std::unique_ptr<Communicator>> MakeInProcessCommunicators(
    int ranks, std::chrono::milliseconds deadline);

}  // namespace ballast
