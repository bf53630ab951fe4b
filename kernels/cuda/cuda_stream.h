// What a Stream of the CUDA device is: one GPU's queue of work, the pinned memory that bytes pass
// through between host and GPU, and what went wrong first.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/pieces.h"
#include "kernels/device.h"

namespace ballast::cuda {

// Pinned memory in pieces that are written one after another, around and around. A piece is written
// again when the queue has come past what was copied from it.
class StagingRing {
 public:
  static constexpr size_t kPieceBytes = size_t{1} << 20;
  static constexpr int kPieces = 4;

  cudaError_t Create();
  void Destroy();

  // Room for `bytes` <= kPieceBytes, to be filled and given to a copy on `queue` before the next
  // call. Null: *error says why.
  void* Take(cudaStream_t queue, size_t bytes, cudaError_t* error);

 private:
  char* memory_ = nullptr;
  cudaEvent_t passed_[kPieces] = {};
  bool recorded_[kPieces] = {};
  int piece_ = 0;
  size_t used_ = 0;  // of the piece
};

// One thread at a time. Errors are kept: after the first one nothing is given to the GPU any more.
class CudaStream {
 public:
  explicit CudaStream(int unit);
  ~CudaStream();
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  int unit() const { return unit_; }
  cudaStream_t queue() const { return queue_; }

  // The GPU becomes this thread's; false: the stream has failed. Before every call of CUDA's.
  bool Ready();
  // Keeps the first failure; "GPU 1: matmul: out of memory".
  void Note(const char* what, cudaError_t error);

  // Copies begin where the queue stands. What `from` holds is taken at the call.
  void Upload(void* to, const void* from, size_t bytes);
  // As Upload, of `bytes` <= StagingRing::kPieceBytes that fill(void* piece) writes.
  template <typename Fill>
  void UploadFilled(void* to, size_t bytes, const Fill& fill);
  // The bytes are at `to` after AwaitDownloads or Synchronize.
  void Download(void* to, const void* from, size_t bytes);
  // Wait for the downloads so far, or for all work. Null, or what failed; lives with the stream.
  const char* AwaitDownloads();
  const char* Synchronize();

  // Working memory on the GPU for one verb: it is the next verb's too, which runs after it. Null:
  // it has failed.
  void* Reserve(size_t bytes);
  // A copy of the host's bytes that one verb reads: in working memory, or, of a piece that is being
  // recorded, in memory that stays as it does. Null: it has failed.
  const void* Constants(const void* from, size_t bytes);

  // Device::replay and end_piece.
  bool Replay(uint64_t key);
  void EndPiece();

 private:
  struct Arrival {
    void* to;
    size_t at;  // of pinned_
    size_t bytes;
  };

  const char* Failure() const { return failure_.empty() ? nullptr : failure_.c_str(); }
  void Deliver();
  bool ReservePinned(size_t bytes);

  const int unit_;
  cudaStream_t queue_ = nullptr;
  StagingRing uploads_;
  char* pinned_ = nullptr;  // of downloads
  size_t pinned_bytes_ = 0;
  size_t pinned_used_ = 0;
  std::vector<Arrival> arrivals_;
  cudaEvent_t downloaded_ = nullptr;  // the last of them
  void* working_ = nullptr;
  size_t working_bytes_ = 0;
  std::unique_ptr<Pieces> pieces_;
  std::string failure_;
};

inline CudaStream& StreamOf(Stream stream) { return *static_cast<CudaStream*>(stream.handle); }

template <typename Fill>
void CudaStream::UploadFilled(void* to, size_t bytes, const Fill& fill) {
  if (!Ready()) return;
  cudaError_t error = cudaSuccess;
  void* const piece = uploads_.Take(queue_, bytes, &error);
  if (piece != nullptr) {
    fill(piece);
    error = cudaMemcpyAsync(to, piece, bytes, cudaMemcpyHostToDevice, queue_);
  }
  Note("upload", error);
}

}  // namespace ballast::cuda
