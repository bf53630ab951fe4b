// Pieces of work that come again (kernels/device.h), as CUDA graphs: one launch instead of many.
//
// A piece is recorded when its key comes for the second time: what comes once is not worth it, and
// the first time has made working memory as large as it must be.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <unordered_map>

namespace ballast::cuda {

// Of one queue; its owner's thread. Calls answer with CUDA's first error.
class Pieces {
 public:
  // More are not kept: all are dropped, and the count begins anew. A kept kernel or copy takes
  // device memory, of which CUDA says no size; 1 KiB each is reckoned with.
  static constexpr size_t kMostPieces = size_t{1} << 16;
  static constexpr size_t kMostNodes = size_t{1} << 16;
  // Device memory for what kept pieces read besides the engine's buffers, and how much of it one
  // may take.
  static constexpr size_t kConstantBytes = size_t{32} << 20;
  static constexpr size_t kConstantBytesOfPiece = size_t{4} << 20;

  explicit Pieces(size_t most_nodes = kMostNodes) : most_nodes_(most_nodes) {}
  ~Pieces() { Destroy(); }
  Pieces(const Pieces&) = delete;
  Pieces& operator=(const Pieces&) = delete;

  // Given: *given. Else the verbs are, and are recorded if recording() says so.
  cudaError_t Replay(cudaStream_t queue, uint64_t key, bool* given);
  // Gives what was recorded.
  cudaError_t End(cudaStream_t queue);
  bool recording() const { return recording_; }

  // Memory with a copy of the host's bytes for the piece that is being recorded; it stays as long
  // as the piece. cudaErrorMemoryAllocation: it has too many.
  cudaError_t Constants(const void* from, size_t bytes, void** to);

  // Forgets all: memory that they work in goes. Nothing is being recorded. Waits for the queue.
  cudaError_t Drop(cudaStream_t queue);

 private:
  cudaError_t Begin(cudaStream_t queue);
  cudaError_t Keep(cudaStream_t queue, cudaGraph_t captured, cudaGraphExec_t* graph);
  cudaError_t DropGraphs(cudaStream_t queue);
  void Destroy();

  std::unordered_map<uint64_t, cudaGraphExec_t> graphs_;  // by key; null: it came once
  const size_t most_nodes_;
  size_t nodes_ = 0;  // of all graphs
  bool recording_ = false;
  uint64_t key_ = 0;  // of what is recorded
  char* constants_ = nullptr;
  size_t constants_used_ = 0;
  size_t piece_constants_ = 0;     // used when the piece began
  cudaStream_t copies_ = nullptr;  // for constants: the queue only records meanwhile
};

}  // namespace ballast::cuda
