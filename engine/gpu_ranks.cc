#include "engine/gpu_ranks.h"

#include <mutex>
#include <thread>
#include <utility>

#include "engine/comm/memory_rendezvous.h"
#include "engine/comm/nccl.h"
#include "engine/unit.h"

namespace ballast {
namespace {

// Longer than any step may take: ranks of one process fail together, so this only turns a bug's
// hang into an error.
constexpr std::chrono::minutes kExchangeDeadline(10);

// body(rank) in a thread for each.
template <typename Body>
void ForRanks(int ranks, const Body& body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) threads.emplace_back(body, rank);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

absl::StatusOr<GpuLinks> ConnectGpus(const Device& device, int ranks,
                                     std::chrono::milliseconds limit) {
  MemoryRendezvous rendezvous;
  GpuLinks links;
  links.rows.resize(static_cast<size_t>(ranks));
  links.weights.resize(static_cast<size_t>(ranks));
  std::mutex mutex;
  absl::Status first;  // failure in time: the others follow from it; guarded by mutex
  const auto connect = [&](int rank) -> absl::Status {
    NcclMeeting meeting;
    meeting.rank = rank;
    meeting.size = ranks;
    meeting.unit = UnitOfRank(device, rank);
    meeting.purpose = "rows";
    meeting.rendezvous = &rendezvous;
    meeting.limit = limit;
    const auto at = static_cast<size_t>(rank);
    ASSIGN_OR_RETURN(links.rows[at], MakeNcclCommunicator(meeting, device, kExchangeDeadline));
    meeting.purpose = "weights";
    ASSIGN_OR_RETURN(links.weights[at], MakeNcclWeights(meeting, device, kExchangeDeadline));
    return absl::OkStatus();
  };
  ForRanks(ranks, [&](int rank) {
    const absl::Status own = connect(rank);
    if (own.ok()) return;
    rendezvous.Fail(own);  // the others need not wait for this one's part in their meeting
    const std::lock_guard lock(mutex);
    if (first.ok()) first = own;
  });
  if (first.ok()) return links;
  Disconnect(std::move(links));
  return first;
}

void Disconnect(GpuLinks links) {
  ForRanks(static_cast<int>(links.rows.size()), [&](int rank) {
    links.weights[static_cast<size_t>(rank)].reset();
    links.rows[static_cast<size_t>(rank)].reset();
  });
}

}  // namespace ballast
