#include "engine/comm/gloo.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace ballast {
namespace {

constexpr uint64_t kNumbersTag = 1;
constexpr uint64_t kRowsTag = 2;

}  // namespace

struct GlooCommunicator::Peer {
  explicit Peer(GlooMesh& mesh)
      : send_numbers(mesh),
        receive_numbers(mesh),
        send_rows(mesh),
        receive_rows{GlooBuffer(mesh), GlooBuffer(mesh)} {}

  GlooBuffer send_numbers;
  GlooBuffer receive_numbers;
  GlooBuffer send_rows;
  // Used in turn: rows stay where they are until the next call has returned.
  std::array<GlooBuffer, 2> receive_rows;
};

GlooCommunicator::GlooCommunicator(std::unique_ptr<GlooMesh> mesh,
                                   std::chrono::milliseconds deadline,
                                   std::unique_ptr<RowStaging> staging)
    : mesh_(std::move(mesh)), deadline_(deadline), staging_(std::move(staging)) {
  for (int peer = 0; peer < size(); ++peer) peers_.emplace_back(*mesh_);
  sent_.resize(size());
}

GlooCommunicator::~GlooCommunicator() = default;

void GlooCommunicator::BeginStep(const StepStamp& stamp) {
  stamp_ = stamp;
  exchange_ = 0;
}

absl::Status GlooCommunicator::AllGather(std::span<const int32_t> mine, std::span<int32_t> all) {
  CHECK(all.size() == mine.size() * size());
  ++exchange_;
  const NumbersHeader header{stamp_, exchange_, mine.size()};
  const size_t bytes = StampedBytes(mine.size());
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    Peer& p = peers_[peer];
    p.receive_numbers.Reserve(bytes);
    RETURN_IF_ERROR(p.receive_numbers.Receive(peer, kNumbersTag, bytes));
    WriteStamped(header, mine, p.send_numbers.Reserve(bytes));
    RETURN_IF_ERROR(p.send_numbers.Send(peer, kNumbersTag, bytes));
  }
  for (int peer = 0; peer < size(); ++peer) {
    const std::span<int32_t> to = all.subspan(peer * mine.size(), mine.size());
    if (peer == rank()) {
      std::copy(mine.begin(), mine.end(), to.begin());
      continue;
    }
    Peer& p = peers_[peer];
    RETURN_IF_ERROR(p.receive_numbers.WaitReceived(deadline_));
    if (absl::Status agree = ReadStamped(p.receive_numbers.data(), peer, rank(), header, to);
        !agree.ok()) {
      mesh_->Fail(agree);
      return agree;
    }
  }
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank()) RETURN_IF_ERROR(peers_[peer].send_numbers.WaitSent(deadline_));
  }
  return absl::OkStatus();
}

absl::Status GlooCommunicator::SendRows(MatView matrix, const RowLists& give) {
  const int64_t row_bytes = RowBytes(matrix);
  for (int peer = 0; peer < size(); ++peer) {
    const int32_t begin = give.begin[peer];
    const int32_t end = give.begin[peer + 1];
    sent_[peer] = static_cast<char>(peer != rank() && begin != end);
    if (sent_[peer] == 0) continue;
    const size_t bytes = (end - begin) * row_bytes;
    GlooBuffer& buffer = peers_[peer].send_rows;
    std::byte* out = buffer.Reserve(bytes);
    if (staging_ != nullptr) {
      const std::span<const int32_t> rows(give.rows);
      RETURN_IF_ERROR(staging_->Collect(matrix, rows.subspan(begin, end - begin), out));
    } else {
      for (int32_t i = begin; i < end; ++i, out += row_bytes) {
        std::memcpy(out, RowAt(matrix, give.rows[i]), row_bytes);
      }
    }
    RETURN_IF_ERROR(buffer.Send(peer, kRowsTag, bytes));
  }
  return absl::OkStatus();
}

// Asks for the others' rows and says where they and its own will lie.
absl::Status GlooCommunicator::TakeRows(MatView matrix, const RowLists& give,
                                        std::span<const int32_t> counts,
                                        std::vector<const void*>& received) {
  const int64_t row_bytes = RowBytes(matrix);
  const char* placed = nullptr;  // on the device, from all peers
  if (staging_ != nullptr) {
    int64_t rows = 0;
    for (int peer = 0; peer < size(); ++peer) rows += peer == rank() ? 0 : counts[peer];
    ASSIGN_OR_RETURN(placed, staging_->Reserve(side_, rows * row_bytes));
  }
  received.clear();
  for (int peer = 0; peer < size(); ++peer) {
    const int32_t rows = counts[peer];
    if (peer == rank()) {
      CHECK(give.begin[peer + 1] - give.begin[peer] == rows);
      for (int32_t i = give.begin[peer]; i < give.begin[peer + 1]; ++i) {
        received.push_back(RowAt(matrix, give.rows[i]));
      }
      continue;
    }
    if (rows == 0) continue;
    GlooBuffer& buffer = peers_[peer].receive_rows[side_];
    const char* at = reinterpret_cast<const char*>(buffer.Reserve(rows * row_bytes));
    if (staging_ != nullptr) at = std::exchange(placed, placed + rows * row_bytes);
    for (int32_t i = 0; i < rows; ++i, at += row_bytes) received.push_back(at);
    RETURN_IF_ERROR(buffer.Receive(peer, kRowsTag, rows * row_bytes));
  }
  return absl::OkStatus();
}

// Waits for the others' rows, which on a device go to `to`, one peer's after another's.
absl::Status GlooCommunicator::PlaceRows(int64_t row_bytes, std::span<const int32_t> counts,
                                         char* to) {
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank() || counts[peer] == 0) continue;
    GlooBuffer& buffer = peers_[peer].receive_rows[side_];
    RETURN_IF_ERROR(buffer.WaitReceived(deadline_));
    if (staging_ == nullptr) continue;
    staging_->Place(to, buffer.data(), counts[peer] * row_bytes);
    to += counts[peer] * row_bytes;
  }
  return staging_ == nullptr ? absl::OkStatus() : staging_->Wait();
}

absl::Status GlooCommunicator::ExchangeRows(MatView matrix, const RowLists& give,
                                            std::span<const int32_t> receive_counts,
                                            std::vector<const void*>& received) {
  RETURN_IF_ERROR(mesh_->failure());
  side_ = 1 - side_;
  RETURN_IF_ERROR(TakeRows(matrix, give, receive_counts, received));
  RETURN_IF_ERROR(SendRows(matrix, give));
  char* placed = nullptr;
  if (staging_ != nullptr) {
    ASSIGN_OR_RETURN(placed, staging_->Reserve(side_, 0));
  }
  RETURN_IF_ERROR(PlaceRows(RowBytes(matrix), receive_counts, placed));
  for (int peer = 0; peer < size(); ++peer) {
    if (sent_[peer] != 0) RETURN_IF_ERROR(peers_[peer].send_rows.WaitSent(deadline_));
  }
  return absl::OkStatus();
}

}  // namespace ballast
