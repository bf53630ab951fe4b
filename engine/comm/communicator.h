// How ranks exchange what a step needs: the second of the two seams.
//
// Calls are collective: every rank makes the same calls in the same order. A call returns an error
// when a peer is missing, late (DEADLINE_EXCEEDED) or at another epoch (FAILED_PRECONDITION); after
// an error the communicator is dead and every later call fails at once. One thread per rank.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

// What one row of a matrix takes on its way, and where it lies.
inline int64_t RowBytes(MatView matrix) {
  return matrix.cols * static_cast<int64_t>(SizeOf(matrix.type));
}
inline const char* RowAt(MatView matrix, int32_t row) {
  return static_cast<const char*>(matrix.data) +
         row * matrix.stride * static_cast<int64_t>(SizeOf(matrix.type));
}

// Rows of a matrix that go to each rank: those of rank r are rows[begin[r] .. begin[r + 1]).
struct RowLists {
  std::vector<int32_t> rows;
  std::vector<int32_t> begin;  // [ranks + 1]
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // all [size, mine.size()]: every rank's numbers, by rank. All give equally many.
  virtual absl::Status AllGather(std::span<const int32_t> mine, std::span<int32_t> all) = 0;

  // Sends the listed rows of `matrix` to each rank and takes receive_counts[r] rows from rank r.
  // received [sum of receive_counts]: where each row lies in this rank's device memory, by source
  // rank, in the sender's order. `matrix` is computed when the call is made (the caller has waited
  // for its stream), and the rows are there when it returns. `matrix`, `give` and what `received`
  // points to must stay as they are until the next call of this communicator has returned.
  virtual absl::Status ExchangeRows(MatView matrix, const RowLists& give,
                                    std::span<const int32_t> receive_counts,
                                    std::vector<const void*>& received) = 0;

  // Ends a call under way and all later ones with `why`. The first counts. Any thread.
  virtual void Fail(const absl::Status& why) = 0;
};

}  // namespace ballast
