// Weights between processes, over a mesh of their own: rows do not wait for them.
#pragma once

#include <chrono>
#include <vector>

#include "engine/comm/gloo_device_buffer.h"
#include "engine/comm/gloo_mesh.h"
#include "engine/comm/weight_exchange.h"

namespace ballast {

// The mesh outlives it, and is used by nothing else; so does the device. A peer that does not
// answer within the deadline breaks it.
class GlooWeights final : public WeightExchange {
 public:
  GlooWeights(GlooMesh& mesh, const Device& device, int unit, std::chrono::milliseconds deadline)
      : mesh_(mesh),
        device_(device),
        stream_(device.create_stream(unit, /*threads=*/1)),
        deadline_(deadline) {}
  ~GlooWeights() override;

  absl::Status Start(std::span<const WeightBlock> sent,
                     std::span<const WeightBlock> received) override;
  absl::Status AwaitReceived() override;
  absl::Status AwaitSent() override;
  void Fail(const absl::Status& why) override { mesh_.Fail(why); }

 private:
  GlooMesh& mesh_;
  const Device& device_;
  const Stream stream_;
  const std::chrono::milliseconds deadline_;
  std::vector<GlooDeviceBuffer> sent_;
  std::vector<GlooDeviceBuffer> received_;
};

}  // namespace ballast
