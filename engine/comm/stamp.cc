#include "engine/comm/stamp.h"

#include <cstring>

#include "absl/strings/str_cat.h"

namespace ballast {

void WriteStamped(const NumbersHeader& header, std::span<const int32_t> numbers, std::byte* out) {
  std::memcpy(out, &header, sizeof(header));
  if (!numbers.empty()) std::memcpy(out + sizeof(header), numbers.data(), numbers.size_bytes());
}

absl::Status ReadStamped(const std::byte* in, int peer, int rank, const NumbersHeader& ours,
                         std::span<int32_t> numbers) {
  NumbersHeader theirs;
  std::memcpy(&theirs, in, sizeof(theirs));
  const auto compare = [&](const char* what, uint64_t their, uint64_t own) {
    if (their == own) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat("exchange between ranks: rank ", peer,
                                                      " is at ", what, " ", their, ", rank ", rank,
                                                      " at ", what, " ", own));
  };
  RETURN_IF_ERROR(compare("epoch", theirs.stamp.epoch, ours.stamp.epoch));
  RETURN_IF_ERROR(compare("step", theirs.stamp.step, ours.stamp.step));
  RETURN_IF_ERROR(
      compare("placement version", theirs.stamp.placement_version, ours.stamp.placement_version));
  RETURN_IF_ERROR(compare("exchange", theirs.exchange, ours.exchange));
  RETURN_IF_ERROR(compare("numbers", theirs.numbers, ours.numbers));
  if (!numbers.empty()) std::memcpy(numbers.data(), in + sizeof(theirs), numbers.size_bytes());
  return absl::OkStatus();
}

}  // namespace ballast
