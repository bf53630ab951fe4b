#include "kernels/cuda/cuda_stream.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace ballast::cuda {

cudaError_t StagingRing::Create() {
  void* memory = nullptr;
  cudaError_t error = cudaHostAlloc(&memory, kPieceBytes * kPieces, cudaHostAllocDefault);
  memory_ = static_cast<char*>(memory);
  for (int i = 0; i < kPieces && error == cudaSuccess; ++i) {
    error = cudaEventCreateWithFlags(&passed_[i], cudaEventDisableTiming);
  }
  return error;
}

void StagingRing::Destroy() {
  for (cudaEvent_t event : passed_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  if (memory_ != nullptr) cudaFreeHost(memory_);
}

void* StagingRing::Take(cudaStream_t queue, size_t bytes, cudaError_t* error) {
  if (used_ + bytes > kPieceBytes) {
    *error = cudaEventRecord(passed_[piece_], queue);
    if (*error != cudaSuccess) return nullptr;
    recorded_[piece_] = true;
    piece_ = (piece_ + 1) % kPieces;
    used_ = 0;
    if (recorded_[piece_]) *error = cudaEventSynchronize(passed_[piece_]);
    if (*error != cudaSuccess) return nullptr;
  }
  void* const room = memory_ + static_cast<size_t>(piece_) * kPieceBytes + used_;
  used_ += AlignUp(bytes);
  return room;
}

CudaStream::CudaStream(int unit) : unit_(unit), pieces_(std::make_unique<Pieces>()) {
  Note("cudaSetDevice", cudaSetDevice(unit));
  if (Ready()) {
    Note("cudaStreamCreate", cudaStreamCreateWithFlags(&queue_, cudaStreamNonBlocking));
  }
  if (Ready()) Note("pinned memory for uploads", uploads_.Create());
  if (Ready()) {
    Note("cudaEventCreate", cudaEventCreateWithFlags(&downloaded_, cudaEventDisableTiming));
  }
}

CudaStream::~CudaStream() {
  // Failed or not, what there is goes; errors have nobody left to hear them.
  cudaSetDevice(unit_);
  if (queue_ != nullptr) cudaStreamSynchronize(queue_);
  pieces_.reset();
  uploads_.Destroy();
  if (pinned_ != nullptr) cudaFreeHost(pinned_);
  if (downloaded_ != nullptr) cudaEventDestroy(downloaded_);
  if (working_ != nullptr) cudaFree(working_);
  if (queue_ != nullptr) cudaStreamDestroy(queue_);
}

bool CudaStream::Ready() {
  if (failure_.empty()) Note("cudaSetDevice", cudaSetDevice(unit_));
  return failure_.empty();
}

void CudaStream::Note(const char* what, cudaError_t error) {
  if (error == cudaSuccess || !failure_.empty()) return;
  failure_ = "GPU " + std::to_string(unit_) + ": " + what + ": " + cudaGetErrorString(error);
}

void CudaStream::Upload(void* to, const void* from, size_t bytes) {
  for (size_t done = 0; done < bytes; done += StagingRing::kPieceBytes) {
    const size_t piece = std::min(bytes - done, StagingRing::kPieceBytes);
    UploadFilled(static_cast<char*>(to) + done, piece, [&](void* room) {
      std::memcpy(room, static_cast<const char*>(from) + done, piece);
    });
  }
}

bool CudaStream::ReservePinned(size_t bytes) {
  if (pinned_used_ + bytes <= pinned_bytes_) return true;
  if (AwaitDownloads() != nullptr) return false;
  if (bytes <= pinned_bytes_) return true;
  if (pinned_ != nullptr) Note("cudaFreeHost", cudaFreeHost(pinned_));
  pinned_ = nullptr;
  pinned_bytes_ = 0;
  void* memory = nullptr;
  const size_t room = std::bit_ceil(bytes);  // growing waits for the GPU: seldom, then
  Note("pinned memory for downloads", cudaHostAlloc(&memory, room, cudaHostAllocDefault));
  pinned_ = static_cast<char*>(memory);
  if (pinned_ != nullptr) pinned_bytes_ = room;
  return Ready();
}

void CudaStream::Download(void* to, const void* from, size_t bytes) {
  if (bytes == 0 || !Ready() || !ReservePinned(bytes)) return;
  Note("download",
       cudaMemcpyAsync(pinned_ + pinned_used_, from, bytes, cudaMemcpyDeviceToHost, queue_));
  arrivals_.push_back({to, pinned_used_, bytes});
  pinned_used_ += AlignUp(bytes);
  Note("download", cudaEventRecord(downloaded_, queue_));
}

// Hands out what has come.
void CudaStream::Deliver() {
  if (failure_.empty()) {
    for (const Arrival& arrival : arrivals_) {
      std::memcpy(arrival.to, pinned_ + arrival.at, arrival.bytes);
    }
  }
  arrivals_.clear();
  pinned_used_ = 0;
}

const char* CudaStream::AwaitDownloads() {
  if (Ready() && !arrivals_.empty()) Note("kernels", cudaEventSynchronize(downloaded_));
  Deliver();
  return Failure();
}

const char* CudaStream::Synchronize() {
  if (Ready()) Note("kernels", cudaStreamSynchronize(queue_));
  Deliver();
  return Failure();
}

void* CudaStream::Reserve(size_t bytes) {
  if (bytes <= working_bytes_) return working_;
  if (!Ready()) return nullptr;
  // The queue may still work in it, and so would what is kept.
  Note("kernels", pieces_->Drop(queue_));
  if (working_ != nullptr) Note("cudaFree", cudaFree(working_));
  working_ = nullptr;
  working_bytes_ = 0;
  if (!Ready()) return nullptr;
  Note("working memory", cudaMalloc(&working_, bytes));
  if (working_ != nullptr) working_bytes_ = bytes;
  return working_;
}

const void* CudaStream::Constants(const void* from, size_t bytes) {
  if (!pieces_->recording()) {
    void* const memory = Reserve(bytes);
    if (memory != nullptr) Upload(memory, from, bytes);
    return memory;
  }
  void* memory = nullptr;
  if (Ready()) Note("constants of a graph", pieces_->Constants(from, bytes, &memory));
  return memory;
}

bool CudaStream::Replay(uint64_t key) {
  bool given = false;
  if (Ready()) Note("graph", pieces_->Replay(queue_, key, &given));
  return given;
}

void CudaStream::EndPiece() {
  // What has begun to be recorded ends, even if it failed: else nothing could be waited for.
  cudaSetDevice(unit_);
  Note("graph", pieces_->End(queue_));
}

}  // namespace ballast::cuda
