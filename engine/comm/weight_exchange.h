// How ranks of different processes lend each other an expert's weights for one step of one layer.
#pragma once

#include <cstddef>
#include <span>

#include "engine/status.h"

namespace ballast {

// A piece of device memory that goes to a rank, or comes from it.
struct WeightBlock {
  int peer = 0;
  void* data = nullptr;
  size_t bytes = 0;
};

// Blocks between two ranks are paired in the order in which both name them; sizes are equal. Errors
// as the communicator's. One thread.
class WeightExchange {
 public:
  virtual ~WeightExchange() = default;

  // Starts all; returns at once. The memory must stay until it is awaited.
  virtual absl::Status Start(std::span<const WeightBlock> sent,
                             std::span<const WeightBlock> received) = 0;
  virtual absl::Status AwaitReceived() = 0;
  virtual absl::Status AwaitSent() = 0;
  // Ends a call under way and all later ones with `why`. The first counts. Any thread.
  virtual void Fail(const absl::Status& why) = 0;
};

}  // namespace ballast
