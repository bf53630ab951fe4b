#include "kernels/cuda/pieces.h"

#include <utility>

#include "kernels/device.h"

namespace ballast::cuda {

cudaError_t Pieces::Replay(cudaStream_t queue, uint64_t key, bool* given) {
  *given = false;
  const auto [graph, is_new] = graphs_.try_emplace(key, nullptr);
  if (graph->second != nullptr) {
    *given = true;
    return cudaGraphLaunch(graph->second, queue);
  }
  if (is_new) return graphs_.size() > kMostPieces ? Drop(queue) : cudaSuccess;
  key_ = key;
  return Begin(queue);
}

cudaError_t Pieces::Begin(cudaStream_t queue) {
  cudaError_t error = cudaSuccess;
  if (constants_ == nullptr) {
    void* memory = nullptr;
    error = cudaMalloc(&memory, kConstantBytes);
    constants_ = static_cast<char*>(memory);
    if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking);
  } else if (kConstantBytes - constants_used_ < kConstantBytesOfPiece) {
    error = Drop(queue);
  }
  if (error == cudaSuccess) {
    // Other modes may refuse the copies of constants, on their own stream, meanwhile.
    error = cudaStreamBeginCapture(queue, cudaStreamCaptureModeRelaxed);
  }
  recording_ = error == cudaSuccess;
  piece_constants_ = constants_used_;
  return error;
}

// Should there be no memory for it, those kept so far make room.
cudaError_t Pieces::Keep(cudaStream_t queue, cudaGraph_t captured, cudaGraphExec_t* graph) {
  size_t nodes = 0;
  cudaError_t error = cudaGraphGetNodes(captured, nullptr, &nodes);
  if (error == cudaSuccess && nodes_ + nodes > most_nodes_) error = DropGraphs(queue);
  if (error == cudaSuccess) error = cudaGraphInstantiate(graph, captured, 0);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    error = DropGraphs(queue);
    if (error == cudaSuccess) error = cudaGraphInstantiate(graph, captured, 0);
  }
  nodes_ += nodes;
  return error;
}

cudaError_t Pieces::End(cudaStream_t queue) {
  if (!recording_) return cudaSuccess;
  recording_ = false;
  cudaGraph_t captured = nullptr;
  cudaError_t error = cudaStreamEndCapture(queue, &captured);
  if (error != cudaSuccess) return error;
  cudaGraphExec_t graph = nullptr;
  error = Keep(queue, captured, &graph);
  if (error == cudaSuccess) error = cudaGraphDestroy(captured);
  if (error == cudaSuccess) error = cudaGraphLaunch(graph, queue);
  if (error == cudaSuccess) graphs_[key_] = graph;
  return error;
}

cudaError_t Pieces::Constants(const void* from, size_t bytes, void** to) {
  *to = nullptr;
  if (constants_used_ - piece_constants_ + bytes > kConstantBytesOfPiece) {
    return cudaErrorMemoryAllocation;
  }
  *to = constants_ + constants_used_;
  constants_used_ += AlignUp(bytes);
  const cudaError_t error = cudaMemcpyAsync(*to, from, bytes, cudaMemcpyHostToDevice, copies_);
  return error == cudaSuccess ? cudaStreamSynchronize(copies_) : error;
}

// The constants of the piece that has just been recorded stay.
cudaError_t Pieces::DropGraphs(cudaStream_t queue) {
  // They may run.
  cudaError_t error = cudaStreamSynchronize(queue);
  for (const auto& [key, graph] : std::exchange(graphs_, {})) {
    if (graph != nullptr && error == cudaSuccess) error = cudaGraphExecDestroy(graph);
  }
  nodes_ = 0;
  return error;
}

cudaError_t Pieces::Drop(cudaStream_t queue) {
  const cudaError_t error = DropGraphs(queue);
  constants_used_ = 0;
  return error;
}

// The queue has come to its end.
void Pieces::Destroy() {
  for (const auto& [key, graph] : graphs_) {
    if (graph != nullptr) cudaGraphExecDestroy(graph);
  }
  if (copies_ != nullptr) cudaStreamDestroy(copies_);
  if (constants_ != nullptr) cudaFree(constants_);
}

}  // namespace ballast::cuda
