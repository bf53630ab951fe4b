// NCCL's API, as far as it is used, over emulated GPUs: ranks are threads of this process.
// Signatures and results are those of NCCL 2.28's nccl.h. What is checked more strictly than there:
// communicators are non-blocking; nothing reaches a stream before ncclCommGetAsyncError was polled;
// a communicator stays on one stream; what NCCL would answer with a hang or with wrong bytes
// (transfers.h) is a fault of the communicator and of the device; ncclCommAbort is refused where
// it could wait for ever, while other communicators of the device have work under way.
#include <nccl.h>

#include <algorithm>
#include <utility>

#include "kernels/cuda/emulator/communicators.h"
#include "kernels/cuda/emulator/machine.h"

namespace ballast::emulator {
namespace {

using Held = std::shared_ptr<Communicator>;

thread_local std::string last_error;

ncclResult_t Refuse(ncclResult_t result, const std::string& why) {
  last_error = why;
  return result;
}

// What this thread gives between ncclGroupStart and ncclGroupEnd.
struct Group {
  int depth = 0;
  Held communicator;
  Stream* stream = nullptr;
  std::vector<TransferSide> sides;
  ncclResult_t result = ncclSuccess;  // the first error
};
thread_local Group group;

// In progress already is an error, as is what it has failed with. Under its mutex.
ncclResult_t CheckReady(Communicator& communicator) {
  const ncclResult_t result = communicator.Poll();
  if (result == ncclInProgress) {
    return Refuse(ncclInvalidArgument, "used before what it does was polled to its end");
  }
  return result == ncclSuccess ? result : Refuse(result, communicator.fault);
}

ncclResult_t CheckConfig(const ncclConfig_t* config) {
  if (config == nullptr) return Refuse(ncclInvalidUsage, "a blocking communicator is not emulated");
  const ncclConfig_t expected = NCCL_CONFIG_INITIALIZER;
  if (config->size != expected.size || config->magic != expected.magic ||
      config->version != expected.version) {
    return Refuse(ncclInvalidArgument, "the config does not come from NCCL_CONFIG_INITIALIZER");
  }
  if (config->blocking != 0) {
    return Refuse(ncclInvalidUsage, "a blocking communicator is not emulated");
  }
  return ncclSuccess;
}

bool Overlap(const TransferSide& a, const TransferSide& b) {
  return a.memory < b.memory + b.count * SizeOf(b.type) &&
         b.memory < a.memory + a.count * SizeOf(a.type);
}

// What is received meets nothing else of the group; an all-gather may be in place.
bool AnyOverlap(const std::vector<TransferSide>& sides) {
  for (const TransferSide& side : sides) {
    for (const TransferSide& other : sides) {
      if (&side == &other || side.sends) continue;
      if (side.collective && other.collective && other.sends) continue;
      if (Overlap(side, other)) return true;
    }
  }
  return false;
}

// The launch: a kernel that begins, and that ends when all its bytes have moved.
void Enqueue(Communicator& communicator, Stream* stream, std::vector<TransferSide> sides) {
  const auto exchange = std::make_shared<Exchange>(communicator.rank, std::move(sides));
  communicator.stream = stream;
  communicator.last = exchange;
  Streams& streams = Machine::Get().streams();
  streams.Enqueue(stream, {[clique = communicator.clique, exchange] {
                    clique->transfers().Begin(exchange);
                    return std::string();
                  }});
  streams.Enqueue(stream, {[exchange] { return exchange->fault; },
                           [exchange] { return exchange->over.load(); }});
}

ncclResult_t EndGroup() {
  Group ended = std::exchange(group, Group());
  if (ended.result != ncclSuccess) return ended.result;
  if (ended.sides.empty()) return ncclSuccess;
  if (AnyOverlap(ended.sides)) {
    return Refuse(ncclInvalidUsage, "what is received overlaps other memory of the group");
  }
  Communicator& communicator = *ended.communicator;
  const std::lock_guard lock(communicator.mutex);
  if (const ncclResult_t ready = CheckReady(communicator); ready != ncclSuccess) return ready;
  communicator.Start([&communicator, stream = ended.stream, sides = std::move(ended.sides)] {
    Enqueue(communicator, stream, sides);
    return ncclSuccess;
  });
  return ncclInProgress;
}

ncclResult_t CheckStream(Communicator& communicator, Stream* stream) {
  Streams& streams = Machine::Get().streams();
  if (stream == nullptr || !streams.Has(stream)) return Refuse(ncclInvalidArgument, "no stream");
  if (stream->device != communicator.device) {
    return Refuse(ncclInvalidArgument, "the stream is of another device");
  }
  if (communicator.stream != nullptr && communicator.stream != stream) {
    return Refuse(ncclInvalidUsage, "another stream than before");
  }
  if (const std::string fault = streams.Fault(communicator.device); !fault.empty()) {
    return Refuse(ncclUnhandledCudaError, "the device has failed: " + fault);
  }
  return ncclSuccess;
}

ncclResult_t CheckSide(const Communicator& communicator, const TransferSide& side) {
  if (side.peer < 0 || side.peer >= communicator.clique->size()) {
    return Refuse(ncclInvalidArgument, "no rank " + std::to_string(side.peer));
  }
  if (SizeOf(side.type) == 0) return Refuse(ncclInvalidArgument, "no such type");
  if (side.count == 0) return Refuse(ncclInvalidArgument, "nothing to move");
  const Range range = Machine::Get().Find(side.memory);
  if (range.kind != MemoryKind::kDevice || range.device != communicator.device) {
    return Refuse(ncclInvalidArgument, "not memory of the communicator's device");
  }
  if (range.bytes_left < side.count * SizeOf(side.type)) {
    return Refuse(ncclInvalidArgument, "the memory is shorter than what is moved");
  }
  return ncclSuccess;
}

ncclResult_t Check(ncclComm_t handle, Stream* stream, const std::vector<TransferSide>& sides,
                   Held& communicator) {
  communicator = Communicators::Get().Find(handle);
  if (communicator == nullptr) return Refuse(ncclInvalidArgument, "no communicator");
  const std::lock_guard lock(communicator->mutex);
  if (const ncclResult_t ready = CheckReady(*communicator); ready != ncclSuccess) return ready;
  if (communicator->revoked || communicator->finalized) {
    return Refuse(ncclInvalidUsage, "the communicator was revoked or finalized");
  }
  if (const ncclResult_t fits = CheckStream(*communicator, stream); fits != ncclSuccess) {
    return fits;
  }
  for (const TransferSide& side : sides) {
    if (const ncclResult_t fits = CheckSide(*communicator, side); fits != ncclSuccess) return fits;
  }
  if (group.communicator != nullptr &&
      (group.communicator != communicator || group.stream != stream)) {
    return Refuse(ncclInvalidUsage, "a second communicator or stream in one group");
  }
  return ncclSuccess;
}

ncclResult_t Give(ncclComm_t handle, cudaStream_t cuda_stream, std::vector<TransferSide> sides) {
  Stream* const stream = reinterpret_cast<Stream*>(cuda_stream);
  Held communicator;
  const ncclResult_t result = Check(handle, stream, sides, communicator);
  if (result == ncclSuccess) {
    group.communicator = communicator;
    group.stream = stream;
    group.sides.insert(group.sides.end(), sides.begin(), sides.end());
  } else if (group.result == ncclSuccess) {
    group.result = result;
  }
  return group.depth > 0 ? result : EndGroup();
}

TransferSide MakeSide(bool sends, int peer, const void* memory, size_t count, ncclDataType_t type) {
  TransferSide side;
  side.sends = sends;
  side.peer = peer;
  side.memory = const_cast<char*>(static_cast<const char*>(memory));
  side.count = count;
  side.type = type;
  return side;
}

// From a rank that leaves: what it waits for ends. Under its mutex.
void GiveUp(Communicator& communicator) {
  communicator.clique->transfers().GiveUp(communicator.rank);
  Machine::Get().streams().Wake();
}

ncclResult_t AwaitQuiet(Communicator& communicator) {
  Machine::Get().streams().RunOne();
  return communicator.Busy() ? ncclInProgress : ncclSuccess;
}

}  // namespace
}  // namespace ballast::emulator

// NOLINTBEGIN(readability-identifier-naming): NCCL's names.

using namespace ballast::emulator;  // NOLINT(google-build-using-namespace): NCCL's functions are
                                    // global

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "another error";
  }
}

const char* ncclGetLastError(ncclComm_t) { return last_error.c_str(); }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (id == nullptr) return Refuse(ncclInvalidArgument, "no place for an id");
  *id = Communicators::Get().NewId();
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* out, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (out == nullptr || ranks < 1 || rank < 0 || rank >= ranks) {
    return Refuse(ncclInvalidArgument,
                  "rank " + std::to_string(rank) + " of " + std::to_string(ranks));
  }
  *out = nullptr;
  if (const ncclResult_t fits = CheckConfig(config); fits != ncclSuccess) return fits;
  const std::shared_ptr<Clique> clique = Communicators::Get().CliqueOf(id, ranks);
  if (clique == nullptr) return Refuse(ncclInvalidArgument, "an id that was not given out");
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return Refuse(ncclUnhandledCudaError, "no device");
  clique->Join(rank, ranks, device);
  const auto communicator = std::make_shared<Communicator>(clique, rank, device);
  const std::lock_guard lock(communicator->mutex);
  communicator->Start([&c = *communicator] { return c.clique->Met(c.fault); });
  *out = Communicators::Get().Add(communicator);
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* result) {
  const Held communicator = Communicators::Get().Find(handle);
  if (communicator == nullptr || result == nullptr) {
    return Refuse(ncclInvalidArgument, "no communicator");
  }
  const std::lock_guard lock(communicator->mutex);
  *result = communicator->Poll();
  last_error = communicator->fault;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t handle) {
  const Held communicator = Communicators::Get().Find(handle);
  if (communicator == nullptr) return Refuse(ncclInvalidArgument, "no communicator");
  const std::lock_guard lock(communicator->mutex);
  if (const ncclResult_t ready = CheckReady(*communicator); ready != ncclSuccess) return ready;
  if (communicator->revoked || communicator->finalized) {
    return Refuse(ncclInvalidUsage, "the communicator was revoked or finalized");
  }
  communicator->finalized = true;
  communicator->Start([&c = *communicator] {
    const bool all = c.clique->Finalize(c.rank);
    return all ? AwaitQuiet(c) : ncclInProgress;
  });
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t handle) {
  const Held communicator = Communicators::Get().Find(handle);
  if (communicator == nullptr) return Refuse(ncclInvalidArgument, "no communicator");
  {
    const std::lock_guard lock(communicator->mutex);
    if (const ncclResult_t ready = CheckReady(*communicator); ready != ncclSuccess) return ready;
    if (!communicator->finalized && !communicator->revoked) {
      return Refuse(ncclInvalidUsage, "destroyed, but not finalized");
    }
  }
  Communicators::Get().Remove(handle);
  return ncclSuccess;
}

ncclResult_t ncclCommRevoke(ncclComm_t handle, int flags) {
  const Held communicator = Communicators::Get().Find(handle);
  if (communicator == nullptr) return Refuse(ncclInvalidArgument, "no communicator");
  const std::lock_guard lock(communicator->mutex);
  if (flags != NCCL_REVOKE_DEFAULT || communicator->revoked || communicator->finalized) {
    return Refuse(ncclInvalidArgument, "revoked or finalized before");
  }
  communicator->revoked = true;
  GiveUp(*communicator);
  communicator->Start([&c = *communicator] { return AwaitQuiet(c); });
  return ncclInProgress;
}

ncclResult_t ncclCommAbort(ncclComm_t handle) {
  const Held communicator = Communicators::Get().Find(handle);
  if (communicator == nullptr) return Refuse(ncclInvalidArgument, "no communicator");
  {
    const std::lock_guard lock(communicator->mutex);
    GiveUp(*communicator);
    // As the real one, it comes back when its work has left the device.
    while (AwaitQuiet(*communicator) == ncclInProgress) {
    }
    communicator->Start([] { return ncclInvalidUsage; });
  }
  if (Communicators::Get().AnyBusy(communicator->device)) {
    return Refuse(ncclInvalidUsage,
                  "frees memory, which waits for another communicator's work on the device");
  }
  Communicators::Get().Remove(handle);
  return ncclSuccess;
}

ncclResult_t ncclCommShrink(ncclComm_t handle, int* excluded, int count, ncclComm_t* out,
                            ncclConfig_t* config, int flags) {
  const Held communicator = Communicators::Get().Find(handle);
  if (communicator == nullptr || excluded == nullptr || count < 1 || out == nullptr) {
    return Refuse(ncclInvalidArgument, "shrinking needs a communicator and who is excluded");
  }
  if (const ncclResult_t fits = CheckConfig(config); fits != ncclSuccess) return fits;
  const std::set<int> gone(excluded, excluded + count);
  const std::lock_guard lock(communicator->mutex);
  const int size = communicator->clique->size();
  if (gone.contains(communicator->rank) || *gone.begin() < 0 || *gone.rbegin() >= size) {
    return Refuse(ncclInvalidArgument, "excludes itself, or a rank that is none");
  }
  if (flags == NCCL_SHRINK_ABORT) {
    GiveUp(*communicator);
    while (AwaitQuiet(*communicator) == ncclInProgress) {
    }
  } else if (communicator->Busy()) {
    return Refuse(ncclInvalidUsage, "shrinks while its work is under way");
  }
  if (const ncclResult_t ready = CheckReady(*communicator); ready != ncclSuccess) return ready;
  *out = nullptr;  // until all have come; polls of the parent say when
  const std::shared_ptr<Clique> child = communicator->clique->Shrink(gone, communicator->rank);
  const int rank = communicator->rank - static_cast<int>(std::distance(
                                            gone.begin(), gone.lower_bound(communicator->rank)));
  child->Join(rank, child->size(), communicator->device);
  communicator->Start([&c = *communicator, child, rank, out] {
    const ncclResult_t met = child->Met(c.fault);
    if (met == ncclSuccess) {
      *out = Communicators::Get().Add(std::make_shared<Communicator>(child, rank, c.device));
    }
    return met;
  });
  return ncclInProgress;
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group.depth == 0) return Refuse(ncclInvalidUsage, "ends a group that was not started");
  if (--group.depth > 0) return ncclSuccess;
  return EndGroup();
}

ncclResult_t ncclSend(const void* memory, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t communicator, cudaStream_t stream) {
  return Give(communicator, stream, {MakeSide(true, peer, memory, count, type)});
}

ncclResult_t ncclRecv(void* memory, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t communicator, cudaStream_t stream) {
  return Give(communicator, stream, {MakeSide(false, peer, memory, count, type)});
}

ncclResult_t ncclAllGather(const void* mine, void* all, size_t count, ncclDataType_t type,
                           ncclComm_t handle, cudaStream_t stream) {
  const Held communicator = Communicators::Get().Find(handle);
  if (communicator == nullptr) return Refuse(ncclInvalidArgument, "no communicator");
  std::vector<TransferSide> sides;
  for (int peer = 0; peer < communicator->clique->size(); ++peer) {
    sides.push_back(MakeSide(true, peer, mine, count, type));
    sides.push_back(
        MakeSide(false, peer, static_cast<char*>(all) + peer * count * SizeOf(type), count, type));
  }
  for (TransferSide& side : sides) side.collective = true;
  return Give(handle, stream, std::move(sides));
}

// NOLINTEND(readability-identifier-naming)
