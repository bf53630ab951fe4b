// Waiting for a device.
#pragma once

#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

// INTERNAL with what the device says when work given to the stream has failed; its results are then
// nobody's to use.
inline absl::Status Synchronize(const Device& device, Stream stream) {
  const char* const failure = device.synchronize(stream);
  return failure == nullptr ? absl::OkStatus() : absl::InternalError(failure);
}

// Likewise, for what was downloaded; work given since goes on meanwhile.
inline absl::Status AwaitDownloads(const Device& device, Stream stream) {
  const char* const failure = device.await_downloads(stream);
  return failure == nullptr ? absl::OkStatus() : absl::InternalError(failure);
}

}  // namespace ballast
