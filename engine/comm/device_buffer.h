// Device memory that grows to what is asked for.
#pragma once

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

class DeviceBuffer {
 public:
  // The device and its stream outlive it.
  DeviceBuffer(const Device& device, Stream stream) : device_(device), stream_(stream) {}
  ~DeviceBuffer() { Release(); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  // Contents are lost when it grows, which waits for all work of the GPU.
  absl::Status Reserve(size_t bytes) {
    if (bytes <= bytes_) return absl::OkStatus();
    Release();
    data_ = device_.allocate(stream_, bytes);
    if (data_ == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("exchange between ranks: no memory for ", bytes, " bytes"));
    }
    bytes_ = bytes;
    return absl::OkStatus();
  }

  std::byte* data() const { return static_cast<std::byte*>(data_); }

 private:
  void Release() {
    if (data_ != nullptr) device_.release(data_, bytes_);
    data_ = nullptr;
    bytes_ = 0;
  }

  const Device& device_;
  const Stream stream_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace ballast
