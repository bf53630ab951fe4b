// Messages between two processes, of any length: a plan to a rank, its result back.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/comm/gloo_mesh.h"
#include "engine/status.h"

namespace ballast {

struct ChannelMessage {
  uint32_t kind = 0;  // its meaning is the users'
  std::string bytes;
};

// Longer ones are refused by either side.
inline constexpr size_t kMaxMessageBytes = size_t{1} << 30;

// One end of the way to `peer` over a mesh; a mesh may have one to every peer. Short messages take
// one trip, long ones two. One thread at a time.
class GlooChannel {
 public:
  GlooChannel(GlooMesh& mesh, int peer);
  GlooChannel(GlooChannel&&) noexcept = default;

  int peer() const { return peer_; }

  // Returns when the peer has asked for it and the bytes are on their way.
  absl::Status Send(uint32_t kind, std::string_view bytes,
                    std::chrono::milliseconds limit = kForever);
  // Waits for the next message, asleep.
  absl::StatusOr<ChannelMessage> Receive(std::chrono::milliseconds limit = kForever);

 private:
  absl::Status Listen();

  int peer_;
  GlooBuffer send_first_;
  GlooBuffer send_rest_;
  GlooBuffer receive_first_;
  GlooBuffer receive_rest_;
  bool listening_ = false;  // the first part of the next message is asked for
};

}  // namespace ballast
