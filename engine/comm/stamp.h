// What travels with every exchange of numbers between processes, so that ranks which do not do the
// same thing say so instead of computing on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/comm/communicator.h"
#include "engine/status.h"

namespace ballast {

// What all ranks must agree on when they exchange anything.
struct StepStamp {
  uint64_t epoch = 0;  // of the world: another one after ranks were lost and found again
  uint64_t step = 0;
  uint64_t placement_version = 0;
};

// A communicator between processes: the stamp is checked in every AllGather (FAILED_PRECONDITION
// names both values).
class StampedCommunicator : public Communicator {
 public:
  // Before the first call of a step. The caller's thread.
  virtual void BeginStep(const StepStamp& stamp) = 0;
};

// Stands before the numbers.
struct NumbersHeader {
  StepStamp stamp;
  uint64_t exchange = 0;  // AllGathers since the step began
  uint64_t numbers = 0;
};

constexpr size_t StampedBytes(size_t numbers) {
  return sizeof(NumbersHeader) + numbers * sizeof(int32_t);
}

// out [StampedBytes(numbers.size())].
void WriteStamped(const NumbersHeader& header, std::span<const int32_t> numbers, std::byte* out);

// Numbers of `peer`; FAILED_PRECONDITION when its header is not `ours`, which is that of `rank`.
absl::Status ReadStamped(const std::byte* in, int peer, int rank, const NumbersHeader& ours,
                         std::span<int32_t> numbers);

}  // namespace ballast
