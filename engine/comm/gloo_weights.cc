#include "engine/comm/gloo_weights.h"

namespace ballast {
namespace {

constexpr uint64_t kWeightsTag = 1;

}  // namespace

GlooWeights::~GlooWeights() { device_.destroy_stream(stream_); }

absl::Status GlooWeights::Start(std::span<const WeightBlock> sent,
                                std::span<const WeightBlock> received) {
  CHECK(sent_.empty() && received_.empty());
  for (const WeightBlock& block : received) {
    GlooDeviceBuffer& buffer = received_.emplace_back(mesh_, device_, stream_);
    RETURN_IF_ERROR(buffer.Receive(block.peer, kWeightsTag, block.data, block.bytes));
  }
  for (const WeightBlock& block : sent) {
    GlooDeviceBuffer& buffer = sent_.emplace_back(mesh_, device_, stream_);
    RETURN_IF_ERROR(buffer.Send(block.peer, kWeightsTag, block.data, block.bytes));
  }
  return absl::OkStatus();
}

absl::Status GlooWeights::AwaitReceived() {
  for (GlooDeviceBuffer& buffer : received_) RETURN_IF_ERROR(buffer.WaitReceived(deadline_));
  received_.clear();
  return absl::OkStatus();
}

absl::Status GlooWeights::AwaitSent() {
  for (GlooDeviceBuffer& buffer : sent_) RETURN_IF_ERROR(buffer.WaitSent(deadline_));
  sent_.clear();
  return absl::OkStatus();
}

}  // namespace ballast
