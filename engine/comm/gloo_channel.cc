#include "engine/comm/gloo_channel.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace ballast {
namespace {

constexpr uint64_t kFirstTag = 1;
constexpr uint64_t kRestTag = 2;

struct MessageHeader {
  uint32_t kind = 0;
  uint32_t unused = 0;
  uint64_t bytes = 0;
};

// What travels with the header: most plans and results of a decode step.
constexpr size_t kFirstBytes = 16 << 10;

absl::Status CheckLength(int peer, uint64_t bytes) {
  if (bytes <= kMaxMessageBytes) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("message between this rank and rank ", peer, ": ", bytes,
                                          " bytes, expected at most ", kMaxMessageBytes));
}

}  // namespace

GlooChannel::GlooChannel(GlooMesh& mesh, int peer)
    : peer_(peer), send_first_(mesh), send_rest_(mesh), receive_first_(mesh), receive_rest_(mesh) {
  send_first_.Reserve(sizeof(MessageHeader) + kFirstBytes);
  receive_first_.Reserve(sizeof(MessageHeader) + kFirstBytes);
}

absl::Status GlooChannel::Send(uint32_t kind, std::string_view bytes,
                               std::chrono::milliseconds limit) {
  RETURN_IF_ERROR(CheckLength(peer_, bytes.size()));
  const MessageHeader header{kind, 0, bytes.size()};
  const size_t first = std::min(bytes.size(), kFirstBytes);
  std::memcpy(send_first_.data(), &header, sizeof(header));
  if (first > 0) std::memcpy(send_first_.data() + sizeof(header), bytes.data(), first);
  RETURN_IF_ERROR(send_first_.Send(peer_, kFirstTag, sizeof(header) + first));
  const size_t rest = bytes.size() - first;
  if (rest > 0) {
    std::memcpy(send_rest_.Reserve(rest), bytes.data() + first, rest);
    RETURN_IF_ERROR(send_rest_.Send(peer_, kRestTag, rest));
  }
  RETURN_IF_ERROR(send_first_.WaitSent(limit));
  return rest > 0 ? send_rest_.WaitSent(limit) : absl::OkStatus();
}

absl::Status GlooChannel::Listen() {
  if (listening_) return absl::OkStatus();
  RETURN_IF_ERROR(receive_first_.Receive(peer_, kFirstTag, sizeof(MessageHeader) + kFirstBytes));
  listening_ = true;
  return absl::OkStatus();
}

absl::StatusOr<ChannelMessage> GlooChannel::Receive(std::chrono::milliseconds limit) {
  RETURN_IF_ERROR(Listen());
  RETURN_IF_ERROR(receive_first_.WaitReceived(limit));
  listening_ = false;
  MessageHeader header;
  std::memcpy(&header, receive_first_.data(), sizeof(header));
  RETURN_IF_ERROR(CheckLength(peer_, header.bytes));
  ChannelMessage message{header.kind, std::string(header.bytes, '\0')};
  const size_t first = std::min<size_t>(header.bytes, kFirstBytes);
  std::memcpy(message.bytes.data(), receive_first_.data() + sizeof(header), first);
  const size_t rest = header.bytes - first;
  if (rest > 0) {
    receive_rest_.Reserve(rest);
    RETURN_IF_ERROR(receive_rest_.Receive(peer_, kRestTag, rest));
  }
  // Asked for at once, so that the next message need not wait for us to come back. That there will
  // be none, for the peer is gone, is the next call's to say: this message is here.
  Listen().IgnoreError();
  if (rest > 0) {
    RETURN_IF_ERROR(receive_rest_.WaitReceived());
    std::memcpy(message.bytes.data() + first, receive_rest_.data(), rest);
  }
  return message;
}

}  // namespace ballast
