// What the ranks of one emulated NCCL communicator give each other: both sides of a transfer are
// paired when both have come to the front of their streams, and only then do bytes move.
#pragma once

#include <nccl.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace ballast::emulator {

// One end of a transfer.
struct TransferSide {
  bool sends = false;
  // Part of an all-gather: such are not paired with ncclSend and ncclRecv.
  bool collective = false;
  int peer = 0;
  char* memory = nullptr;
  size_t count = 0;
  ncclDataType_t type = ncclInt8;
  bool done = false;  // guarded by Transfers, once begun
};

size_t SizeOf(ncclDataType_t type);

// What one rank gives to its stream at once, as NCCL does in one kernel: a group, or a collective.
struct Exchange {
  Exchange(int its_rank, std::vector<TransferSide> its_sides)
      : rank(its_rank), sides(std::move(its_sides)) {}

  const int rank;
  std::vector<TransferSide> sides;
  std::string fault;               // read when it is over
  std::atomic<bool> over = false;  // nothing of it is waited for any more
};

// Any thread.
class Transfers {
 public:
  explicit Transfers(int ranks) : under_way_(ranks), gone_(ranks) {}

  // The exchange has come to the front of its stream; the one before it of this rank is over. It is
  // over when all its sides have met theirs, or it has a fault: the sides differ, or ranks wait for
  // each other in a circle, which NCCL answers with a hang or with wrong bytes.
  void Begin(const std::shared_ptr<Exchange>& exchange);

  // The rank moves no more bytes: its exchange under way and those to come are over, and what they
  // would have received is poisoned. Others go on waiting for it.
  void GiveUp(int rank);

 private:
  void Meet(const std::shared_ptr<Exchange>& exchange, TransferSide& side);
  void FindCircle(int rank);
  void End(int rank, const std::string& fault);
  void EndIfDone(int rank);

  std::mutex mutex_;
  std::vector<std::shared_ptr<Exchange>> under_way_;  // [ranks]; guarded by mutex_
  std::vector<char> gone_;                            // [ranks]; guarded by mutex_
};

}  // namespace ballast::emulator
