// Rows of device memory that the host cannot reach, on their way to and from a wire.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/comm/device_buffer.h"
#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

// One thread. Its memory grows to the largest exchange so far; RESOURCE_EXHAUSTED when that ends.
class RowStaging {
 public:
  // Work runs on a stream of its own. `device` outlives it.
  RowStaging(const Device& device, int unit);
  ~RowStaging() { device_.destroy_stream(stream_); }
  RowStaging(const RowStaging&) = delete;
  RowStaging& operator=(const RowStaging&) = delete;

  // The listed rows of a matrix, one after another, into the host's memory.
  absl::Status Collect(MatView matrix, std::span<const int32_t> rows, std::byte* to);

  // Room for received rows; there are two sides, each of which stays until it is asked for again.
  absl::StatusOr<char*> Reserve(int side, size_t bytes);
  // Begins to copy the host's bytes there.
  void Place(char* to, const std::byte* from, size_t bytes);
  // Until what was placed is there.
  absl::Status Wait();

 private:
  const Device& device_;
  const Stream stream_;
  DeviceBuffer addresses_;
  DeviceBuffer collected_;
  std::array<DeviceBuffer, 2> received_;
  std::vector<const void*> rows_;
};

}  // namespace ballast
