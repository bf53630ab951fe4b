#include "engine/comm/nccl.h"

#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/comm/device_buffer.h"
#include "engine/comm/nccl_link.h"
#include "kernels/cuda/cuda_stream.h"

namespace ballast {
namespace {

using std::chrono::milliseconds;

// Numbers travel in whole blocks: ranks that give other lengths are then mostly found by the stamp,
// where NCCL would hang.
constexpr size_t kNumbersBlock = 4096;

// Pinned memory of the host, so that copies do not wait.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  ~PinnedBuffer() { Release(); }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  cudaError_t Reserve(size_t bytes) {
    if (bytes <= bytes_) return cudaSuccess;
    Release();
    const cudaError_t error = cudaHostAlloc(&data_, bytes, cudaHostAllocDefault);
    if (error == cudaSuccess) bytes_ = bytes;
    return error;
  }
  std::byte* data() const { return static_cast<std::byte*>(data_); }

 private:
  void Release() {
    if (data_ != nullptr) cudaFreeHost(data_);
    data_ = nullptr;
    bytes_ = 0;
  }

  void* data_ = nullptr;
  size_t bytes_ = 0;
};

class OverNccl final : public NcclCommunicator {
 public:
  OverNccl(std::unique_ptr<NcclLink> link, milliseconds deadline)
      : link_(std::move(link)),
        deadline_(deadline),
        numbers_(link_->device(), link_->stream()),
        addresses_(link_->device(), link_->stream()),
        sent_(link_->device(), link_->stream()),
        received_{DeviceBuffer(link_->device(), link_->stream()),
                  DeviceBuffer(link_->device(), link_->stream())} {}

  int rank() const override { return link_->rank(); }
  int size() const override { return link_->size(); }
  void BeginStep(const StepStamp& stamp) override {
    stamp_ = stamp;
    exchange_ = 0;
  }
  void Fail(const absl::Status& why) override { link_->Fail(why); }

  absl::Status AllGather(std::span<const int32_t> mine, std::span<int32_t> all) override;
  absl::Status ExchangeRows(MatView matrix, const RowLists& give,
                            std::span<const int32_t> receive_counts,
                            std::vector<const void*>& received) override;
  absl::StatusOr<std::unique_ptr<NcclCommunicator>> Shrink(std::span<const int> lost,
                                                           milliseconds limit) override;

 private:
  absl::Status Keep(const absl::Status& status);
  absl::Status GatherBlocks(size_t block);
  absl::Status Collect(MatView matrix, const RowLists& give);
  absl::Status PlaceRows(MatView matrix, const RowLists& give, std::span<const int32_t> counts,
                         std::vector<const void*>& received);
  absl::Status MoveRows(size_t row_bytes, const RowLists& give, std::span<const int32_t> counts);

  const std::unique_ptr<NcclLink> link_;
  const milliseconds deadline_;
  StepStamp stamp_;
  uint64_t exchange_ = 0;                 // AllGathers since the step began
  PinnedBuffer host_;                     // this rank's block, then all ranks'
  DeviceBuffer numbers_;                  // the same on the GPU
  DeviceBuffer addresses_;                // of the rows that are sent
  DeviceBuffer sent_;                     // those rows, by the rank they go to
  std::array<DeviceBuffer, 2> received_;  // rows stay until the next call has returned
  int side_ = 0;
  std::vector<const void*> rows_;
};

// What fails on this side only must not leave the others waiting for what never comes.
absl::Status OverNccl::Keep(const absl::Status& status) {
  if (!status.ok()) link_->Fail(status);
  return status;
}

// Every rank's block of the host's memory behind this rank's own.
absl::Status OverNccl::GatherBlocks(size_t block) {
  const size_t ranks = static_cast<size_t>(size());
  std::byte* const host = host_.data();
  std::byte* const numbers = numbers_.data();
  RETURN_IF_ERROR(
      link_->Check("numbers to the GPU",
                   cudaMemcpyAsync(numbers, host, block, cudaMemcpyHostToDevice, link_->queue())));
  RETURN_IF_ERROR(link_->Give("numbers", [&](ncclComm_t comm, cudaStream_t queue) {
    return ncclAllGather(numbers, numbers + block, block, ncclUint8, comm, queue);
  }));
  RETURN_IF_ERROR(link_->AwaitGiven("numbers", deadline_));
  RETURN_IF_ERROR(link_->Check("numbers from the GPU",
                               cudaMemcpyAsync(host + block, numbers + block, ranks * block,
                                               cudaMemcpyDeviceToHost, link_->queue())));
  return link_->AwaitDone("numbers", deadline_);
}

absl::Status OverNccl::AllGather(std::span<const int32_t> mine, std::span<int32_t> all) {
  CHECK(all.size() == mine.size() * static_cast<size_t>(size()));
  RETURN_IF_ERROR(link_->failure());
  const NumbersHeader header{stamp_, ++exchange_, mine.size()};
  const size_t block =
      (StampedBytes(mine.size()) + kNumbersBlock - 1) / kNumbersBlock * kNumbersBlock;
  const size_t bytes = block * static_cast<size_t>(size() + 1);
  RETURN_IF_ERROR(link_->Check("pinned memory for numbers", host_.Reserve(bytes)));
  RETURN_IF_ERROR(Keep(numbers_.Reserve(bytes)));
  WriteStamped(header, mine, host_.data());
  RETURN_IF_ERROR(GatherBlocks(block));
  for (int peer = 0; peer < size(); ++peer) {
    const std::byte* const theirs = host_.data() + block * static_cast<size_t>(peer + 1);
    RETURN_IF_ERROR(
        Keep(ReadStamped(theirs, peer, rank(), header,
                         all.subspan(static_cast<size_t>(peer) * mine.size(), mine.size()))));
  }
  return absl::OkStatus();
}

// The rows for all others, one rank's after another's, in one piece of memory.
absl::Status OverNccl::Collect(MatView matrix, const RowLists& give) {
  rows_.clear();
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    for (int32_t i = give.begin[peer]; i < give.begin[peer + 1]; ++i) {
      rows_.push_back(RowAt(matrix, give.rows[i]));
    }
  }
  if (rows_.empty()) return absl::OkStatus();
  const size_t address_bytes = rows_.size() * sizeof(void*);
  RETURN_IF_ERROR(addresses_.Reserve(address_bytes));
  RETURN_IF_ERROR(sent_.Reserve(rows_.size() * static_cast<size_t>(RowBytes(matrix))));
  const Device& device = link_->device();
  device.upload(link_->stream(), addresses_.data(), rows_.data(), address_bytes);
  device.copy_rows(
      link_->stream(), reinterpret_cast<const void* const*>(addresses_.data()),
      {sent_.data(), matrix.type, static_cast<int64_t>(rows_.size()), matrix.cols, matrix.cols});
  return absl::OkStatus();
}

// Where each row will lie: own ones stay, others' come to this exchange's side.
absl::Status OverNccl::PlaceRows(MatView matrix, const RowLists& give,
                                 std::span<const int32_t> counts,
                                 std::vector<const void*>& received) {
  const auto row_bytes = static_cast<size_t>(RowBytes(matrix));
  size_t rows = 0;
  for (int peer = 0; peer < size(); ++peer) {
    rows += peer == rank() ? 0 : static_cast<size_t>(counts[peer]);
  }
  side_ = 1 - side_;
  RETURN_IF_ERROR(received_[side_].Reserve(rows * row_bytes));
  const std::byte* at = received_[side_].data();
  received.clear();
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) {
      CHECK(give.begin[peer + 1] - give.begin[peer] == counts[peer]);
      for (int32_t i = give.begin[peer]; i < give.begin[peer + 1]; ++i) {
        received.push_back(RowAt(matrix, give.rows[i]));
      }
      continue;
    }
    for (int32_t i = 0; i < counts[peer]; ++i, at += row_bytes) received.push_back(at);
  }
  return absl::OkStatus();
}

absl::Status OverNccl::MoveRows(size_t row_bytes, const RowLists& give,
                                std::span<const int32_t> counts) {
  return link_->Give("rows", [&](ncclComm_t comm, cudaStream_t queue) {
    const std::byte* from = sent_.data();
    std::byte* to = received_[side_].data();
    ncclResult_t result = ncclSuccess;
    const auto go_on = [&] { return result == ncclSuccess || result == ncclInProgress; };
    for (int peer = 0; peer < size(); ++peer) {
      if (peer == rank()) continue;
      const size_t out = static_cast<size_t>(give.begin[peer + 1] - give.begin[peer]) * row_bytes;
      const size_t in = static_cast<size_t>(counts[peer]) * row_bytes;
      if (out > 0 && go_on()) result = ncclSend(from, out, ncclUint8, peer, comm, queue);
      if (in > 0 && go_on()) result = ncclRecv(to, in, ncclUint8, peer, comm, queue);
      from += out;
      to += in;
    }
    return result;
  });
}

absl::Status OverNccl::ExchangeRows(MatView matrix, const RowLists& give,
                                    std::span<const int32_t> receive_counts,
                                    std::vector<const void*>& received) {
  RETURN_IF_ERROR(link_->failure());
  RETURN_IF_ERROR(Keep(PlaceRows(matrix, give, receive_counts, received)));
  RETURN_IF_ERROR(Keep(Collect(matrix, give)));
  RETURN_IF_ERROR(MoveRows(RowBytes(matrix), give, receive_counts));
  RETURN_IF_ERROR(link_->AwaitDone("rows", deadline_));
  // Returns at once, with what the device's own verbs noted.
  const char* const failure = link_->device().synchronize(link_->stream());
  return failure == nullptr ? absl::OkStatus() : Keep(absl::InternalError(failure));
}

absl::StatusOr<std::unique_ptr<NcclCommunicator>> OverNccl::Shrink(std::span<const int> lost,
                                                                   milliseconds limit) {
  ASSIGN_OR_RETURN(std::unique_ptr<NcclLink> link, link_->Shrink(lost, limit));
  return std::make_unique<OverNccl>(std::move(link), deadline_);
}

class WeightsOverNccl final : public WeightExchange {
 public:
  WeightsOverNccl(std::unique_ptr<NcclLink> link, milliseconds deadline)
      : link_(std::move(link)), deadline_(deadline) {}

  void Fail(const absl::Status& why) override { link_->Fail(why); }

  absl::Status Start(std::span<const WeightBlock> sent,
                     std::span<const WeightBlock> received) override {
    CHECK(!under_way_);
    RETURN_IF_ERROR(link_->failure());
    under_way_ = !sent.empty() || !received.empty();
    if (!under_way_) return absl::OkStatus();
    RETURN_IF_ERROR(link_->Give("weights", [&](ncclComm_t comm, cudaStream_t queue) {
      ncclResult_t result = ncclSuccess;
      const auto go_on = [&] { return result == ncclSuccess || result == ncclInProgress; };
      for (const WeightBlock& block : received) {
        if (!go_on()) break;
        result = ncclRecv(block.data, block.bytes, ncclUint8, block.peer, comm, queue);
      }
      for (const WeightBlock& block : sent) {
        if (!go_on()) break;
        result = ncclSend(block.data, block.bytes, ncclUint8, block.peer, comm, queue);
      }
      return result;
    }));
    // Before rows are exchanged: all ranks must launch two communicators' work in one order.
    return link_->AwaitGiven("weights", deadline_);
  }

  // NCCL moves both ways at once and ends at once.
  absl::Status AwaitReceived() override { return Await(); }
  absl::Status AwaitSent() override { return Await(); }

 private:
  absl::Status Await() {
    RETURN_IF_ERROR(link_->failure());
    if (!std::exchange(under_way_, false)) return absl::OkStatus();
    return link_->AwaitDone("weights", deadline_);
  }

  const std::unique_ptr<NcclLink> link_;
  const milliseconds deadline_;
  bool under_way_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<NcclCommunicator>> MakeNcclCommunicator(const NcclMeeting& meeting,
                                                                       const Device& device,
                                                                       milliseconds deadline) {
  ASSIGN_OR_RETURN(std::unique_ptr<NcclLink> link, NcclLink::Connect(meeting, device));
  return std::make_unique<OverNccl>(std::move(link), deadline);
}

absl::StatusOr<std::unique_ptr<WeightExchange>> MakeNcclWeights(const NcclMeeting& meeting,
                                                                const Device& device,
                                                                milliseconds deadline) {
  ASSIGN_OR_RETURN(std::unique_ptr<NcclLink> link, NcclLink::Connect(meeting, device));
  return std::make_unique<WeightsOverNccl>(std::move(link), deadline);
}

}  // namespace ballast
