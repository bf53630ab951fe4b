// Graphs: what a stream is given between begin and end of a capture, to be given again. Recorded
// are kernels with their arguments and copies with their addresses; memory is read when they run,
// so a block that was freed since is found by ASan. What a capture may not contain is an error at
// once: events, waiting, allocation, copies of pageable memory. Only
// cudaStreamCaptureModeRelaxed.
#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "kernels/cuda/emulator/machine.h"
#include "kernels/cuda/emulator/runtime.h"

namespace ballast::emulator {
namespace {

struct Graph {
  int device = 0;
  std::vector<Operation> operations;
};

// What is given out, so that a stale handle is an error and no crash.
class Graphs {
 public:
  Graph* Add(Graph graph) {
    auto held = std::make_unique<Graph>(std::move(graph));
    const std::lock_guard lock(mutex_);
    return held_.emplace(held.get(), std::move(held)).first->second.get();
  }
  Graph* Find(const void* handle) {
    const std::lock_guard lock(mutex_);
    const auto found = held_.find(handle);
    return found == held_.end() ? nullptr : found->second.get();
  }
  bool Remove(const void* handle) {
    const std::lock_guard lock(mutex_);
    return held_.erase(handle) != 0;
  }

 private:
  std::mutex mutex_;
  std::map<const void*, std::unique_ptr<Graph>> held_;
};
Graphs graphs;       // captured
Graphs executables;  // instantiated

}  // namespace
}  // namespace ballast::emulator

// NOLINTBEGIN(readability-identifier-naming): CUDA's names.

using namespace ballast::emulator;  // NOLINT(google-build-using-namespace): CUDA's functions are
                                    // global

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  Stream* const queue = ToStream(stream);
  if (queue == nullptr) return Answer(cudaErrorInvalidResourceHandle);
  if (mode != cudaStreamCaptureModeRelaxed) return Answer(cudaErrorInvalidValue);
  if (queue->capture != nullptr) return Answer(cudaErrorIllegalState);
  queue->capture = std::make_unique<std::vector<Operation>>();
  CountCaptures(1);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  Stream* const queue = ToStream(stream);
  if (queue == nullptr) return Answer(cudaErrorInvalidResourceHandle);
  if (queue->capture == nullptr) return Answer(cudaErrorIllegalState);
  *graph = reinterpret_cast<cudaGraph_t>(graphs.Add({queue->device, std::move(*queue->capture)}));
  queue->capture = nullptr;
  CountCaptures(-1);
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  const Graph* const held = graphs.Find(graph);
  if (held == nullptr || nodes != nullptr) return Answer(cudaErrorInvalidValue);  // only counted
  *count = held->operations.size();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long flags) {  // NOLINT(google-runtime-int)
  *executable = nullptr;
  const Graph* const held = graphs.Find(graph);
  if (held == nullptr || flags != 0) return Answer(cudaErrorInvalidValue);
  *executable = reinterpret_cast<cudaGraphExec_t>(executables.Add(*held));
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (Sticky() != cudaSuccess) return Answer(Sticky());
  const Graph* const held = executables.Find(executable);
  Stream* const queue = ToStream(stream);
  if (held == nullptr) return Answer(cudaErrorInvalidValue);
  if (queue == nullptr || queue->device != held->device) {
    return Answer(cudaErrorInvalidResourceHandle);
  }
  for (const Operation& operation : held->operations) AllStreams().Enqueue(queue, operation);
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return graphs.Remove(graph) ? cudaSuccess : Answer(cudaErrorInvalidValue);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return executables.Remove(executable) ? cudaSuccess : Answer(cudaErrorInvalidValue);
}

// NOLINTEND(readability-identifier-naming)
