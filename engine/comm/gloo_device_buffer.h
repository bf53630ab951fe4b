// Device memory that bytes are sent from or received into over Gloo: directly where the host can
// reach it, else through the host's memory.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "engine/comm/gloo_mesh.h"
#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

// As a GlooBuffer, for one operation. The device, its stream and the mesh outlive it.
class GlooDeviceBuffer {
 public:
  GlooDeviceBuffer(GlooMesh& mesh, const Device& device, Stream stream)
      : buffer_(mesh), device_(&device), stream_(stream) {}

  // What `data` holds is taken at the call where it is not the host's.
  absl::Status Send(int peer, uint64_t tag, void* data, size_t bytes);
  absl::Status Receive(int peer, uint64_t tag, void* data, size_t bytes);
  absl::Status WaitSent(std::chrono::milliseconds limit = kForever) {
    return buffer_.WaitSent(limit);
  }
  // The bytes are on the device then.
  absl::Status WaitReceived(std::chrono::milliseconds limit = kForever);

 private:
  GlooBuffer buffer_;
  const Device* device_;
  Stream stream_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace ballast
