// CUDA's runtime API, as far as it is used, over the emulated machine. Signatures and errors are
// those of CUDA 13's cuda_runtime_api.h; arguments are checked as strictly as there, or more so.
// What is enqueued runs when somebody waits (streams.h); what then goes wrong stays with its
// device, as an error in a kernel does on a GPU.
#include <cuda_runtime_api.h>

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "kernels/cuda/emulator/grid.h"
#include "kernels/cuda/emulator/machine.h"
#include "kernels/cuda/emulator/runtime.h"

namespace ballast::emulator {
namespace {

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;
thread_local int captures = 0;

// Events that are given out, so that a stale handle is an error and no crash.
class Events {
 public:
  Event* Create() {
    auto event = std::make_shared<Event>();
    const std::lock_guard lock(mutex_);
    return held_.emplace(event.get(), event).first->second.get();
  }
  // Null: there is none of this handle.
  std::shared_ptr<Event> Find(cudaEvent_t handle) {
    const std::lock_guard lock(mutex_);
    const auto found = held_.find(handle);
    return found == held_.end() ? nullptr : found->second;
  }
  bool Remove(cudaEvent_t handle) {
    const std::lock_guard lock(mutex_);
    return held_.erase(handle) != 0;
  }

 private:
  std::mutex mutex_;
  std::map<const void*, std::shared_ptr<Event>> held_;
};
Events events;

// Whether `bytes` from where `range` begins are device memory, or memory of the host.
bool Fits(const Range& range, size_t bytes, bool on_device) {
  if ((range.kind == MemoryKind::kDevice) != on_device) return false;
  return range.kind == MemoryKind::kPageable || bytes <= range.bytes_left;
}

// What may not be called by a thread that records a graph.
bool IsUnsafe() { return captures > 0; }

// Waits for the device first, as the real ones do.
cudaError_t Release(MemoryKind kind, void* memory) {
  if (IsUnsafe()) return Answer(cudaErrorStreamCaptureUnsupported);
  if (memory == nullptr) return cudaSuccess;
  AllStreams().DrainDevice(current_device);
  return Machine::Get().Free(kind, memory) ? cudaSuccess : Answer(cudaErrorInvalidValue);
}

}  // namespace

Streams& AllStreams() { return Machine::Get().streams(); }

cudaError_t Answer(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

cudaError_t Sticky() {
  return AllStreams().Fault(current_device).empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

Stream* ToStream(cudaStream_t handle) {
  Stream* const stream = reinterpret_cast<Stream*>(handle);
  return stream != nullptr && AllStreams().Has(stream) ? stream : nullptr;
}

void CountCaptures(int more) { captures += more; }

cudaError_t EnqueueLaunch(const char* name, const BlockShape& shape, cudaStream_t stream,
                          std::function<void()> body) {
  if (Sticky() != cudaSuccess) return Answer(Sticky());
  Stream* const queue = ToStream(stream);
  if (queue == nullptr || queue->device != current_device) {
    return Answer(cudaErrorInvalidResourceHandle);
  }
  if (!CheckShape(shape).empty()) return Answer(cudaErrorInvalidConfiguration);
  AllStreams().Enqueue(queue, {[name, shape, body = std::move(body)] {
                         const uint64_t seed = Machine::Get().NextSeed();
                         const std::string fault = RunGrid(shape, seed, body);
                         return fault.empty() ? fault : std::string(name) + ": " + fault;
                       }});
  return cudaSuccess;
}

std::string FaultOfDevice() { return AllStreams().Fault(current_device); }

}  // namespace ballast::emulator

// NOLINTBEGIN(readability-identifier-naming): CUDA's names.

using namespace ballast::emulator;  // NOLINT(google-build-using-namespace): CUDA's functions are
                                    // global

cudaError_t cudaGetDeviceCount(int* count) {
  const MachineOptions& options = Machine::Get().options();
  *count = 0;
  if (options.driver_version < CUDART_VERSION) return Answer(cudaErrorInsufficientDriver);
  *count = options.devices;
  return *count > 0 ? cudaSuccess : Answer(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= Machine::Get().options().devices) {
    return Answer(cudaErrorInvalidDevice);
  }
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  if (IsUnsafe()) return Answer(cudaErrorStreamCaptureUnsupported);
  AllStreams().DrainDevice(current_device);
  return Answer(Sticky());
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *free_bytes = Machine::Get().FreeBytes(current_device);
  *total_bytes = Machine::Get().options().bytes_per_device;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = nullptr;
  if (IsUnsafe()) return Answer(cudaErrorStreamCaptureUnsupported);
  if (bytes == 0) return cudaSuccess;
  if (Machine::Get().options().devices == 0) return Answer(cudaErrorNoDevice);
  *memory = Machine::Get().Allocate(MemoryKind::kDevice, current_device, bytes);
  return *memory == nullptr ? Answer(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t cudaFree(void* memory) { return Release(MemoryKind::kDevice, memory); }

cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned flags) {
  if (flags != cudaHostAllocDefault) return Answer(cudaErrorInvalidValue);
  *memory = Machine::Get().Allocate(MemoryKind::kPinned, current_device, bytes);
  return *memory == nullptr ? Answer(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t cudaFreeHost(void* memory) { return Release(MemoryKind::kPinned, memory); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (flags != cudaStreamNonBlocking) return Answer(cudaErrorInvalidValue);  // others wait on all
  *stream = reinterpret_cast<cudaStream_t>(AllStreams().Create(current_device));
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Stream* const queue = ToStream(stream);
  if (queue == nullptr) return Answer(cudaErrorInvalidResourceHandle);
  AllStreams().Destroy(queue);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Stream* const queue = ToStream(stream);
  if (queue == nullptr) return Answer(cudaErrorInvalidResourceHandle);
  if (queue->capture != nullptr) return Answer(cudaErrorStreamCaptureUnsupported);
  AllStreams().Drain(queue);
  return Answer(Sticky());
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  Stream* const queue = ToStream(stream);
  if (queue == nullptr) return Answer(cudaErrorInvalidResourceHandle);
  if (queue->capture != nullptr) return Answer(cudaErrorStreamCaptureUnsupported);
  AllStreams().RunOne();
  if (Sticky() != cudaSuccess) return Answer(Sticky());
  return AllStreams().Idle(*queue) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  Stream* const queue = ToStream(stream);
  if (queue == nullptr) return Answer(cudaErrorInvalidResourceHandle);
  if (Sticky() != cudaSuccess) return Answer(Sticky());
  if (bytes == 0) return cudaSuccess;
  if (kind == cudaMemcpyDefault) return Answer(cudaErrorInvalidMemcpyDirection);  // say which
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const Range target = Machine::Get().Find(to);
  const Range source = Machine::Get().Find(from);
  if (!Fits(target, bytes, to_device) || !Fits(source, bytes, from_device)) {
    return Answer(cudaErrorInvalidValue);
  }
  const bool pageable =
      target.kind == MemoryKind::kPageable || source.kind == MemoryKind::kPageable;
  if (pageable && queue->capture != nullptr) return Answer(cudaErrorStreamCaptureUnsupported);
  AllStreams().Enqueue(queue, {[to, from, bytes] {
                         std::memcpy(to, from, bytes);
                         return std::string();
                       }});
  if (pageable) AllStreams().Drain(queue);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  Stream* const queue = ToStream(stream);
  if (queue == nullptr) return Answer(cudaErrorInvalidResourceHandle);
  if (Sticky() != cudaSuccess) return Answer(Sticky());
  if (!Fits(Machine::Get().Find(memory), bytes, true)) return Answer(cudaErrorInvalidValue);
  AllStreams().Enqueue(queue, {[memory, value, bytes] {
                         std::memset(memory, value, bytes);
                         return std::string();
                       }});
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (flags != cudaEventDisableTiming) return Answer(cudaErrorInvalidValue);  // nothing is timed
  *event = reinterpret_cast<cudaEvent_t>(events.Create());
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return events.Remove(event) ? cudaSuccess : Answer(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::shared_ptr<Event> held = events.Find(event);
  Stream* const queue = ToStream(stream);
  if (held == nullptr || queue == nullptr) return Answer(cudaErrorInvalidResourceHandle);
  if (queue->capture != nullptr) return Answer(cudaErrorStreamCaptureUnsupported);
  AllStreams().Record(queue, held);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  const std::shared_ptr<Event> held = events.Find(event);
  Stream* const queue = ToStream(stream);
  if (held == nullptr || queue == nullptr) return Answer(cudaErrorInvalidResourceHandle);
  if (queue->capture != nullptr) return Answer(cudaErrorStreamCaptureUnsupported);
  if (flags != 0) return Answer(cudaErrorInvalidValue);
  AllStreams().WaitFor(queue, held);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const std::shared_ptr<Event> held = events.Find(event);
  if (held == nullptr) return Answer(cudaErrorInvalidResourceHandle);
  AllStreams().Drain(*held);
  return Answer(Sticky());
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::shared_ptr<Event> held = events.Find(event);
  if (held == nullptr) return Answer(cudaErrorInvalidResourceHandle);
  AllStreams().RunOne();
  if (Sticky() != cudaSuccess) return Answer(Sticky());
  return AllStreams().Completed(*held) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }

// NOLINTEND(readability-identifier-naming)
