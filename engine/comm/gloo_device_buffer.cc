#include "engine/comm/gloo_device_buffer.h"

#include "engine/synchronize.h"

namespace ballast {

absl::Status GlooDeviceBuffer::Send(int peer, uint64_t tag, void* data, size_t bytes) {
  if (device_->host_memory) {
    buffer_.Use(data, bytes);
  } else {
    device_->download(stream_, buffer_.Reserve(bytes), data, bytes);
    RETURN_IF_ERROR(Synchronize(*device_, stream_));
  }
  return buffer_.Send(peer, tag, bytes);
}

absl::Status GlooDeviceBuffer::Receive(int peer, uint64_t tag, void* data, size_t bytes) {
  data_ = data;
  bytes_ = bytes;
  if (device_->host_memory) {
    buffer_.Use(data, bytes);
  } else {
    buffer_.Reserve(bytes);
  }
  return buffer_.Receive(peer, tag, bytes);
}

absl::Status GlooDeviceBuffer::WaitReceived(std::chrono::milliseconds limit) {
  RETURN_IF_ERROR(buffer_.WaitReceived(limit));
  if (device_->host_memory) return absl::OkStatus();
  device_->upload(stream_, data_, buffer_.data(), bytes_);
  return Synchronize(*device_, stream_);
}

}  // namespace ballast
