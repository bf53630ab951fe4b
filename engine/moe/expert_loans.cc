#include "engine/moe/expert_loans.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace ballast {

absl::StatusOr<std::unique_ptr<ExpertLoans>> ExpertLoans::Create(WeightExchange& exchange,
                                                                 const Device& device,
                                                                 Stream stream, size_t slot_bytes) {
  std::unique_ptr<ExpertLoans> loans(new ExpertLoans(exchange, device, slot_bytes));
  const size_t bytes = kMaxImports * slot_bytes;
  loans->slots_ = static_cast<char*>(device.allocate(stream, bytes));
  if (loans->slots_ == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("slots for borrowed experts: no memory for ", bytes, " bytes"));
  }
  return loans;
}

ExpertLoans::~ExpertLoans() {
  if (slots_ != nullptr) device_.release(slots_, kMaxImports * slot_bytes_);
}

void ExpertLoans::Lend(int peer, const MlpWeights& expert) {
  for (const PackedMatrix* matrix : {&expert.gate, &expert.up, &expert.down}) {
    sent_.push_back({peer, matrix->data, device_.packed_bytes(matrix->type, matrix->n, matrix->k)});
  }
}

void ExpertLoans::Borrow(int peer, size_t spill, const MlpWeights& shape) {
  too_many_ |= borrowed_.size() == kMaxImports;
  if (too_many_) return;
  char* next = slots_ + borrowed_.size() * slot_bytes_;
  MlpWeights& weights = borrowed_.emplace_back(Loan{spill, shape}).weights;
  for (PackedMatrix* matrix : {&weights.gate, &weights.up, &weights.down}) {
    const size_t bytes = device_.packed_bytes(matrix->type, matrix->n, matrix->k);
    matrix->data = next;
    received_.push_back({peer, next, bytes});
    next += AlignUp(bytes);
  }
}

absl::Status ExpertLoans::Start() {
  if (too_many_) {
    return absl::InternalError(
        absl::StrCat("spill: more than ", kMaxImports, " experts are lent to one rank"));
  }
  return exchange_.Start(sent_, received_);
}

absl::Status ExpertLoans::AwaitBorrowed() { return exchange_.AwaitReceived(); }

absl::Status ExpertLoans::Finish() {
  RETURN_IF_ERROR(exchange_.AwaitSent());
  sent_.clear();
  received_.clear();
  borrowed_.clear();
  return absl::OkStatus();
}

const MlpWeights* ExpertLoans::Borrowed(size_t spill) const {
  const auto found = std::find_if(borrowed_.begin(), borrowed_.end(),
                                  [spill](const Loan& loan) { return loan.spill == spill; });
  return found == borrowed_.end() ? nullptr : &found->weights;
}

}  // namespace ballast
