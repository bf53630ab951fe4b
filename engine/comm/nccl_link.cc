#include "engine/comm/nccl_link.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/comm/device_buffer.h"
#include "kernels/cuda/cuda_stream.h"

namespace ballast {
namespace {

using std::chrono::milliseconds;

// How long a rank waits for the others to part in good order: they are done at about the same time.
constexpr milliseconds kPartingLimit(2000);
// How long NCCL may take to end what was revoked. It waits for nobody.
constexpr milliseconds kQuietLimit(5000);
// Waits are spun at first, for exchanges take microseconds, and then slept through in short pieces.
constexpr milliseconds kSpin(2);
constexpr std::chrono::microseconds kNap(20);

class Pace {
 public:
  explicit Pace(milliseconds limit) : limit_(limit) {}

  // False: the time is over.
  bool Wait() const {
    const auto passed = NcclLink::Clock::now() - start_;
    if (passed >= limit_) return false;
    if (passed < kSpin) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
    return true;
  }

 private:
  const NcclLink::Clock::time_point start_ = NcclLink::Clock::now();
  const milliseconds limit_;
};

bool IsError(ncclResult_t result) { return result != ncclSuccess && result != ncclInProgress; }

std::string Seconds(milliseconds time) {
  return absl::StrCat(static_cast<double>(time.count()) / 1000, " s");
}

absl::Status CheckVersion() {
  int found = 0;
  ncclGetVersion(&found);
  constexpr int kExpected = NCCL_VERSION(2, 28, 7);  // ncclCommRevoke
  if (found >= kExpected) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("NCCL: found version ", found, ", expected ", kExpected, " or later"));
}

// Rank 0 makes the id that all others must know.
absl::StatusOr<ncclUniqueId> ShareId(const NcclMeeting& meeting) {
  ncclUniqueId id = {};
  const std::string key = absl::StrCat(meeting.prefix, "/nccl-", meeting.purpose);
  if (meeting.rank == 0) {
    if (const ncclResult_t result = ncclGetUniqueId(&id); result != ncclSuccess) {
      return absl::UnavailableError(
          absl::StrCat("NCCL: ncclGetUniqueId: ", ncclGetLastError(nullptr)));
    }
    if (meeting.size > 1) {
      RETURN_IF_ERROR(meeting.rendezvous->Set(key, std::string(id.internal, sizeof(id.internal))));
    }
    return id;
  }
  ASSIGN_OR_RETURN(const std::string text, meeting.rendezvous->Get(key, meeting.limit));
  if (text.size() != sizeof(id.internal)) {
    return absl::InternalError(absl::StrCat("rendezvous: \"", key, "\" has ", text.size(),
                                            " bytes, expected ", sizeof(id.internal)));
  }
  std::memcpy(id.internal, text.data(), sizeof(id.internal));
  return id;
}

ncclConfig_t ConfigOf(const NcclMeeting& meeting) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.commName = meeting.purpose.c_str();
  return config;
}

}  // namespace

NcclLink::NcclLink(const NcclMeeting& meeting, const Device& device)
    : meeting_(meeting), device_(device), stream_(device.create_stream(meeting.unit, 1)) {}

absl::StatusOr<std::unique_ptr<NcclLink>> NcclLink::Connect(const NcclMeeting& meeting,
                                                            const Device& device) {
  CHECK(meeting.rank >= 0 && meeting.rank < meeting.size);
  RETURN_IF_ERROR(CheckVersion());
  std::unique_ptr<NcclLink> link(new NcclLink(meeting, device));
  RETURN_IF_ERROR(link->Initialize());
  RETURN_IF_ERROR(link->Greet());
  return link;
}

NcclLink::~NcclLink() {
  cuda::StreamOf(stream_).Ready();  // else NCCL would wake GPU 0 for a thread that has none
  if (busy_) Fail(absl::CancelledError("its communicator is destroyed"));
  if (comm_ != nullptr && failure().ok()) {
    const std::lock_guard lock(mutex_);
    if (!IsError(ncclCommFinalize(comm_)) && AwaitQuiet(kPartingLimit) &&
        ncclCommDestroy(comm_) == ncclSuccess) {
      comm_ = nullptr;
    }
  }
  if (comm_ != nullptr) {
    const std::lock_guard lock(mutex_);
    AwaitQuiet(kQuietLimit);
    Abort();
  }
  device_.destroy_stream(stream_);
}

cudaStream_t NcclLink::queue() const { return cuda::StreamOf(stream_).queue(); }

absl::Status NcclLink::Initialize() {
  cuda::CudaStream& stream = cuda::StreamOf(stream_);
  if (!stream.Ready()) return absl::UnavailableError(stream.Synchronize());
  ASSIGN_OR_RETURN(const ncclUniqueId id, ShareId(meeting_));
  ncclConfig_t config = ConfigOf(meeting_);
  const std::lock_guard lock(mutex_);
  ncclResult_t result = ncclCommInitRankConfig(&comm_, meeting_.size, id, meeting_.rank, &config);
  for (const Pace pace(meeting_.limit); result == ncclInProgress && pace.Wait();) {
    ncclCommGetAsyncError(comm_, &result);
  }
  if (result == ncclSuccess) return absl::OkStatus();
  failure_ = result != ncclInProgress
                 ? Fault("init", result)
                 : absl::DeadlineExceededError(absl::StrCat(
                       "rank ", rank(), " of ", size(), ": NCCL did not join all ranks for ",
                       meeting_.purpose, " within ", Seconds(meeting_.limit)));
  Abort();
  return failure_;
}

// Under the mutex.
void NcclLink::Abort() {
  if (comm_ != nullptr) ncclCommAbort(comm_);
  comm_ = nullptr;
}

absl::Status NcclLink::Greet() {
  if (size() == 1) return absl::OkStatus();
  DeviceBuffer bytes(device_, stream_);
  RETURN_IF_ERROR(bytes.Reserve(static_cast<size_t>(2 * size())));
  RETURN_IF_ERROR(Check("greeting", cudaMemsetAsync(bytes.data(), 0, 2 * size(), queue())));
  RETURN_IF_ERROR(Give("greeting", [&](ncclComm_t comm, cudaStream_t on) {
    ncclResult_t result = ncclSuccess;
    for (int peer = 0; peer < size() && !IsError(result); ++peer) {
      if (peer == rank()) continue;
      result = ncclSend(bytes.data() + peer, 1, ncclUint8, peer, comm, on);
      if (IsError(result)) break;
      result = ncclRecv(bytes.data() + size() + peer, 1, ncclUint8, peer, comm, on);
    }
    return result;
  }));
  return AwaitDone("greeting", meeting_.limit);
}

absl::Status NcclLink::Fault(const char* what, ncclResult_t result) const {
  const std::string text =
      absl::StrCat("NCCL: ", what, " of ", meeting_.purpose, " at rank ", rank(), " of ", size(),
                   ": ", ncclGetErrorString(result), ": ", ncclGetLastError(comm_));
  if (result == ncclRemoteError || result == ncclSystemError) return absl::UnavailableError(text);
  if (result == ncclInvalidArgument || result == ncclInvalidUsage) {
    return absl::InvalidArgumentError(text);
  }
  return absl::InternalError(text);
}

absl::Status NcclLink::Check(const char* what, cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  Fail(absl::InternalError(
      absl::StrCat(what, " at rank ", rank(), " of ", size(), ": ", cudaGetErrorString(error))));
  return failure();
}

absl::Status NcclLink::Give(const char* what,
                            const std::function<ncclResult_t(ncclComm_t, cudaStream_t)>& give) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(failure_);
  busy_ = true;
  ncclGroupStart();
  const ncclResult_t given = give(comm_, queue());
  const ncclResult_t ended = ncclGroupEnd();
  for (const ncclResult_t result : {given, ended}) {
    if (IsError(result)) FailLocked(Fault(what, result));
  }
  return failure_;
}

// Whether it has come so far. Errors are the failure.
absl::StatusOr<bool> NcclLink::Ask(Until until, const char* what) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(failure_);
  ncclResult_t result = ncclSuccess;
  ncclCommGetAsyncError(comm_, &result);
  if (IsError(result)) {
    FailLocked(Fault(what, result));
    return failure_;
  }
  // Before that, the stream does not know of it.
  if (result == ncclInProgress) return false;
  if (until == Until::kGiven) return true;
  const cudaError_t error = cudaStreamQuery(queue());
  if (error == cudaErrorNotReady) return false;
  if (error != cudaSuccess) {
    FailLocked(absl::InternalError(
        absl::StrCat(what, " at rank ", rank(), " of ", size(), ": ", cudaGetErrorString(error))));
    return failure_;
  }
  busy_ = false;
  return true;
}

absl::Status NcclLink::Await(Until until, const char* what, milliseconds limit) {
  for (const Pace pace(limit);;) {
    const absl::StatusOr<bool> come = Ask(until, what);
    if (come.ok() && *come) return absl::OkStatus();
    if (come.ok() && pace.Wait()) continue;
    if (come.ok()) {
      Fail(absl::DeadlineExceededError(
          absl::StrCat("rank ", rank(), " of ", size(), ": not all ranks came to an exchange of ",
                       meeting_.purpose, " (", what, ") within ", Seconds(limit))));
    }
    const std::lock_guard lock(mutex_);
    AwaitQuiet(kQuietLimit);
    return failure_;
  }
}

absl::Status NcclLink::AwaitGiven(const char* what, milliseconds limit) {
  return Await(Until::kGiven, what, limit);
}

absl::Status NcclLink::AwaitDone(const char* what, milliseconds limit) {
  return Await(Until::kDone, what, limit);
}

void NcclLink::FailLocked(const absl::Status& why) {
  if (!failure_.ok()) return;
  failure_ = why;
  if (comm_ == nullptr) return;
  ncclResult_t state = ncclSuccess;
  ncclCommGetAsyncError(comm_, &state);
  if (state == ncclInProgress) {
    // Revoking what is not launched yet frees it, and NCCL 2.28 looks at it again at the next poll.
    Abort();
  } else {
    ncclCommRevoke(comm_, NCCL_REVOKE_DEFAULT);
  }
}

void NcclLink::Fail(const absl::Status& why) {
  const std::lock_guard lock(mutex_);
  FailLocked(why);
}

absl::Status NcclLink::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

// False: something is still in progress. Under the mutex.
bool NcclLink::AwaitQuiet(milliseconds limit) {
  if (comm_ == nullptr) return true;
  for (const Pace pace(limit);;) {
    ncclResult_t result = ncclSuccess;
    ncclCommGetAsyncError(comm_, &result);
    if (result != ncclInProgress) return result == ncclSuccess;
    if (!pace.Wait()) return false;
  }
}

absl::StatusOr<std::unique_ptr<NcclLink>> NcclLink::Shrink(std::span<const int> lost,
                                                           milliseconds limit) {
  Fail(absl::CancelledError("ranks were lost and the communicator shrank to those that are left"));
  std::vector<int> excluded(lost.begin(), lost.end());
  std::sort(excluded.begin(), excluded.end());
  CHECK(!excluded.empty() && !std::binary_search(excluded.begin(), excluded.end(), rank()));
  NcclMeeting smaller = meeting_;
  smaller.size -= static_cast<int>(excluded.size());
  smaller.rank -= static_cast<int>(std::lower_bound(excluded.begin(), excluded.end(), rank()) -
                                   excluded.begin());
  smaller.limit = limit;
  std::unique_ptr<NcclLink> link(new NcclLink(smaller, device_));
  ncclConfig_t config = ConfigOf(link->meeting_);
  {
    const std::lock_guard lock(mutex_);
    if (comm_ == nullptr) {
      return absl::FailedPreconditionError("NCCL: shrinking: the communicator had to be aborted");
    }
    AwaitQuiet(kQuietLimit);
    const ncclResult_t result =
        ncclCommShrink(comm_, excluded.data(), static_cast<int>(excluded.size()), &child_, &config,
                       NCCL_SHRINK_DEFAULT);
    if (IsError(result)) return Fault("shrinking", result);
    if (!AwaitQuiet(limit)) {
      ncclResult_t state = ncclSuccess;
      ncclCommGetAsyncError(comm_, &state);
      const absl::Status fault = Fault("shrinking", state);
      Abort();
      if (IsError(state)) return fault;
      return absl::DeadlineExceededError(absl::StrCat(
          "rank ", rank(), " of ", size(), ": not all of the ", smaller.size,
          " ranks that are left came to shrink ", meeting_.purpose, " within ", Seconds(limit)));
    }
    link->comm_ = std::exchange(child_, nullptr);
  }
  RETURN_IF_ERROR(link->Greet());
  return link;
}

}  // namespace ballast
