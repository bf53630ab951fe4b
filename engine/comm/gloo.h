// Ranks as processes: rows travel over TCP (gloo_mesh.h).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/comm/gloo_mesh.h"
#include "engine/comm/row_staging.h"
#include "engine/comm/stamp.h"

namespace ballast {

// Rows of a rank's own are pointed to; others' lie in buffers that grow to the largest
// exchange so far. A peer that does not answer within the deadline breaks it; a rank between steps
// makes no calls, so waiting for work does not count.
class GlooCommunicator final : public StampedCommunicator {
 public:
  // `staging` is for matrices in memory that the host cannot reach; null: it can.
  GlooCommunicator(std::unique_ptr<GlooMesh> mesh, std::chrono::milliseconds deadline,
                   std::unique_ptr<RowStaging> staging = nullptr);
  ~GlooCommunicator() override;

  void BeginStep(const StepStamp& stamp) override;
  void Fail(const absl::Status& why) override { mesh_->Fail(why); }

  int rank() const override { return mesh_->rank(); }
  int size() const override { return mesh_->size(); }
  absl::Status AllGather(std::span<const int32_t> mine, std::span<int32_t> all) override;
  absl::Status ExchangeRows(MatView matrix, const RowLists& give,
                            std::span<const int32_t> receive_counts,
                            std::vector<const void*>& received) override;

 private:
  struct Peer;

  absl::Status SendRows(MatView matrix, const RowLists& give);
  absl::Status TakeRows(MatView matrix, const RowLists& give, std::span<const int32_t> counts,
                        std::vector<const void*>& received);
  absl::Status PlaceRows(int64_t row_bytes, std::span<const int32_t> counts, char* to);

  const std::unique_ptr<GlooMesh> mesh_;
  const std::chrono::milliseconds deadline_;
  const std::unique_ptr<RowStaging> staging_;
  StepStamp stamp_;
  uint64_t exchange_ = 0;  // AllGathers since the step began
  std::vector<Peer> peers_;
  std::vector<char> sent_;  // [size] whether rows of this exchange go there
  int side_ = 0;            // of the receive buffers in use
};

}  // namespace ballast
