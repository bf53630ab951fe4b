#include "kernels/cuda/emulator/transfers.h"

#include <algorithm>
#include <cstring>
#include <deque>

#include "kernels/cuda/emulator/machine.h"

namespace ballast::emulator {
namespace {

size_t BytesOf(const TransferSide& side) { return side.count * SizeOf(side.type); }

// A buffer that was freed since it was given is found even without ASan.
bool IsAllocated(const TransferSide& side) {
  const Range range = Machine::Get().Find(side.memory);
  return range.kind == MemoryKind::kDevice && range.bytes_left >= BytesOf(side);
}

std::string Said(int rank, const TransferSide& side) {
  return "rank " + std::to_string(rank) + (side.sends ? " sends " : " receives ") +
         std::to_string(side.count) + " of type " + std::to_string(side.type);
}

bool Waits(const Exchange& exchange, int peer) {
  return std::any_of(exchange.sides.begin(), exchange.sides.end(),
                     [peer](const TransferSide& side) { return !side.done && side.peer == peer; });
}

}  // namespace

size_t SizeOf(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
    case ncclFloat8e4m3:
    case ncclFloat8e5m2:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
      return 8;
    default:
      return 0;
  }
}

void Transfers::Begin(const std::shared_ptr<Exchange>& exchange) {
  const std::lock_guard lock(mutex_);
  under_way_[exchange->rank] = exchange;
  if (gone_[exchange->rank] != 0) {
    End(exchange->rank, "");
    return;
  }
  for (TransferSide& side : exchange->sides) {
    if (!exchange->over && !side.done) Meet(exchange, side);
  }
  if (!exchange->over) EndIfDone(exchange->rank);
  if (!exchange->over) FindCircle(exchange->rank);
}

void Transfers::GiveUp(int rank) {
  const std::lock_guard lock(mutex_);
  gone_[rank] = 1;
  if (under_way_[rank] != nullptr) End(rank, "");
}

void Transfers::Meet(const std::shared_ptr<Exchange>& exchange, TransferSide& side) {
  const std::shared_ptr<Exchange> other = under_way_[side.peer];
  if (other == nullptr) return;
  const auto match =
      std::find_if(other->sides.begin(), other->sides.end(), [&](const TransferSide& theirs) {
        return !theirs.done && theirs.peer == exchange->rank && theirs.sends != side.sends &&
               theirs.collective == side.collective;
      });
  if (match == other->sides.end()) return;
  std::string fault;
  if (match->count != side.count || match->type != side.type) {
    fault = Said(exchange->rank, side) + ", but " + Said(other->rank, *match);
  } else if (!IsAllocated(side) || !IsAllocated(*match)) {
    fault = Said(exchange->rank, side) + ": the memory was freed before it ran";
  }
  if (!fault.empty()) {
    End(exchange->rank, fault);
    if (other != exchange) End(other->rank, fault);
    return;
  }
  const TransferSide& from = side.sends ? side : *match;
  const TransferSide& to = side.sends ? *match : side;
  std::memmove(to.memory, from.memory, BytesOf(side));  // an all-gather may be in place
  side.done = true;
  match->done = true;
  if (other != exchange) EndIfDone(other->rank);
}

// What waits for a rank that is itself under way waits for ever, if that one waits for it.
void Transfers::FindCircle(int rank) {
  const auto ranks = static_cast<int>(under_way_.size());
  std::vector<int> reached_from(ranks, -1);
  std::deque<int> open = {rank};
  while (!open.empty()) {
    const int at = open.front();
    open.pop_front();
    for (int peer = 0; peer < ranks; ++peer) {
      if (reached_from[peer] >= 0 || under_way_[peer] == nullptr) continue;
      if (!Waits(*under_way_[at], peer)) continue;
      reached_from[peer] = at;
      open.push_back(peer);
    }
  }
  if (reached_from[rank] < 0) return;
  std::vector<int> circle = {rank};
  std::string fault = "ranks wait for each other: " + std::to_string(rank);
  for (int at = reached_from[rank]; at != rank; at = reached_from[at]) {
    circle.push_back(at);
    fault += " is waited for by " + std::to_string(at) + ", that";
  }
  fault += " by " + std::to_string(rank) + ": their operations come in other orders";
  for (const int at : circle) End(at, fault);
}

void Transfers::End(int rank, const std::string& fault) {
  const std::shared_ptr<Exchange> exchange = std::move(under_way_[rank]);
  under_way_[rank] = nullptr;
  for (TransferSide& side : exchange->sides) {
    if (!side.done && !side.sends && IsAllocated(side))
      std::memset(side.memory, 0xff, BytesOf(side));
    side.done = true;
  }
  exchange->fault = fault;
  exchange->over = true;
}

void Transfers::EndIfDone(int rank) {
  const Exchange& exchange = *under_way_[rank];
  const bool done = std::all_of(exchange.sides.begin(), exchange.sides.end(),
                                [](const TransferSide& side) { return side.done; });
  if (done) End(rank, "");
}

}  // namespace ballast::emulator
