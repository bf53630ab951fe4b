// Weights between processes, over a mesh of their own: rows do not wait for them.
#pragma once

#include <chrono>
#include <vector>

#include "engine/comm/gloo_mesh.h"
#include "engine/comm/weight_exchange.h"

namespace ballast {

// The mesh outlives it, and is used by nothing else. A peer that does not answer within the
// deadline breaks it.
class GlooWeights final : public WeightExchange {
 public:
  GlooWeights(GlooMesh& mesh, std::chrono::milliseconds deadline)
      : mesh_(mesh), deadline_(deadline) {}

  absl::Status Start(std::span<const WeightBlock> sent,
                     std::span<const WeightBlock> received) override;
  absl::Status AwaitReceived() override;
  absl::Status AwaitSent() override;

 private:
  GlooMesh& mesh_;
  const std::chrono::milliseconds deadline_;
  std::vector<GlooBuffer> sent_;
  std::vector<GlooBuffer> received_;
};

}  // namespace ballast
