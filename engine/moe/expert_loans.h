// Experts that a rank borrows from a rank of another process for one step of one layer: their
// weights travel into scratch slots while rows are dispatched (LLEP,
// https://arxiv.org/abs/2601.17111).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/comm/weight_exchange.h"
#include "engine/moe/expert_weights.h"
#include "engine/moe/spill.h"
#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

// Experts that a rank may borrow in one layer of a step. In one process their weights are read
// where they lie, so there this only bounds the search.
inline constexpr int32_t kMaxImports = 8;

// One thread. Every rank of the layer starts and finishes each round, with nothing to lend too.
class ExpertLoans {
 public:
  // Allocates kMaxImports scratch slots of `slot_bytes`. RESOURCE_EXHAUSTED with the bytes.
  // `exchange` and `device` outlive it.
  static absl::StatusOr<std::unique_ptr<ExpertLoans>> Create(WeightExchange& exchange,
                                                             const Device& device, Stream stream,
                                                             size_t slot_bytes);
  ~ExpertLoans();
  ExpertLoans(const ExpertLoans&) = delete;
  ExpertLoans& operator=(const ExpertLoans&) = delete;

  // Says that this rank lends an expert to `peer`, or borrows one of that shape (data is ignored)
  // for the spill `spill`. All ranks list their loans in the order of the spills.
  void Lend(int peer, const MlpWeights& expert);
  void Borrow(int peer, size_t spill, const MlpWeights& shape);

  // Starts what was listed, waits for what is borrowed, waits for what is lent. INTERNAL: more was
  // borrowed than there are slots.
  absl::Status Start();
  absl::Status AwaitBorrowed();
  absl::Status Finish();

  // The expert that was borrowed for a spill; null: none was. Until Finish.
  const MlpWeights* Borrowed(size_t spill) const;

 private:
  struct Loan {
    size_t spill = 0;
    MlpWeights weights;
  };

  ExpertLoans(WeightExchange& exchange, const Device& device, size_t slot_bytes)
      : exchange_(exchange), device_(device), slot_bytes_(slot_bytes) {}

  WeightExchange& exchange_;
  const Device& device_;
  const size_t slot_bytes_;
  char* slots_ = nullptr;  // [kMaxImports, slot_bytes_]
  std::vector<WeightBlock> sent_;
  std::vector<WeightBlock> received_;
  std::vector<Loan> borrowed_;
  bool too_many_ = false;
};

}  // namespace ballast
