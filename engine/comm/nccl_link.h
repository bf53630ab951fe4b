// One NCCL communicator of a rank with a stream of its own, and the only place that waits for it.
#pragma once

#include <nccl.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <span>

#include "engine/comm/nccl.h"
#include "engine/status.h"
#include "kernels/device.h"

namespace ballast {

// One thread at a time, but for Fail and failure.
class NcclLink {
 public:
  using Clock = std::chrono::steady_clock;

  // Meets all others and lets every two say one byte, for NCCL connects them only then.
  static absl::StatusOr<std::unique_ptr<NcclLink>> Connect(const NcclMeeting& meeting,
                                                           const Device& device);
  // Waits shortly for the others to part as well; what is under way is given up.
  ~NcclLink();
  NcclLink(const NcclLink&) = delete;
  NcclLink& operator=(const NcclLink&) = delete;

  int rank() const { return meeting_.rank; }
  int size() const { return meeting_.size; }
  const Device& device() const { return device_; }
  // What is given runs here, in order with what the device is given on it.
  Stream stream() const { return stream_; }
  cudaStream_t queue() const;

  // Gives NCCL the operations of `give` as one group. They are on the stream after AwaitGiven.
  absl::Status Give(const char* what,
                    const std::function<ncclResult_t(ncclComm_t, cudaStream_t)>& give);
  // Until what was given is on the stream; until the stream has done all. `what` is for messages.
  absl::Status AwaitGiven(const char* what, std::chrono::milliseconds limit);
  absl::Status AwaitDone(const char* what, std::chrono::milliseconds limit);
  // Keeps the first CUDA error as the failure.
  absl::Status Check(const char* what, cudaError_t error);

  // Ends what is under way and all that comes with `why`. The first counts. Any thread. May wait
  // for NCCL's own thread, which looks whether it is to end.
  void Fail(const absl::Status& why);
  absl::Status failure() const;

  // NcclCommunicator::Shrink.
  absl::StatusOr<std::unique_ptr<NcclLink>> Shrink(std::span<const int> lost,
                                                   std::chrono::milliseconds limit);

 private:
  enum class Until : uint8_t { kGiven, kDone };

  NcclLink(const NcclMeeting& meeting, const Device& device);

  absl::Status Initialize();
  absl::Status Greet();
  absl::Status Await(Until until, const char* what, std::chrono::milliseconds limit);
  absl::StatusOr<bool> Ask(Until until, const char* what);
  absl::Status Fault(const char* what, ncclResult_t result) const;
  void FailLocked(const absl::Status& why);
  void Abort();
  bool AwaitQuiet(std::chrono::milliseconds limit);

  NcclMeeting meeting_;
  const Device& device_;
  const Stream stream_;
  mutable std::mutex mutex_;
  absl::Status failure_;        // guarded by mutex_, as are all calls of NCCL and what follows
  ncclComm_t comm_ = nullptr;   // null: none, or it has parted
  ncclComm_t child_ = nullptr;  // NCCL sets it when Shrink is done
  bool busy_ = false;           // something was given and has not been awaited to its end
};

}  // namespace ballast
