#include "engine/comm/in_process.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <mutex>

#include "absl/strings/str_cat.h"

namespace ballast {
namespace {

// A barrier that can fail: once a rank is late or said to be lost, all calls fail.
class Barrier {
 public:
  Barrier(int ranks, std::chrono::milliseconds deadline) : ranks_(ranks), deadline_(deadline) {}

  absl::Status Arrive() {
    std::unique_lock lock(mutex_);
    if (!broken_.ok()) return broken_;
    const uint64_t round = round_;
    if (++arrived_ == ranks_) {
      arrived_ = 0;
      ++round_;
      changed_.notify_all();
      return absl::OkStatus();
    }
    changed_.wait_for(lock, deadline_, [&] { return round_ != round || !broken_.ok(); });
    if (round_ != round) return absl::OkStatus();
    Break(absl::DeadlineExceededError(absl::StrCat(
        "exchange between ranks: a rank did not come within ", deadline_.count(), " ms")));
    return broken_;
  }

  void Fail(const absl::Status& why) {
    const std::lock_guard lock(mutex_);
    Break(why);
  }

 private:
  void Break(const absl::Status& why) {
    if (broken_.ok()) broken_ = why;
    changed_.notify_all();
  }

  const int ranks_;
  const std::chrono::milliseconds deadline_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int arrived_ = 0;
  uint64_t round_ = 0;
  absl::Status broken_;
};

// What a rank shows the others in a call. Written before the barrier, read after it.
struct Shown {
  std::span<const int32_t> numbers;
  MatView matrix;
  const RowLists* give = nullptr;
};

struct Group {
  Group(int ranks, std::chrono::milliseconds deadline) : barrier(ranks, deadline) {
    for (auto& side : shown) side.resize(ranks);
  }
  Barrier barrier;
  // Calls alternate between two sides: a rank that is a call ahead writes where nobody reads. It
  // cannot be two ahead, for the call between has a barrier of its own.
  std::array<std::vector<Shown>, 2> shown;
};

class InProcess final : public Communicator {
 public:
  InProcess(int rank, std::shared_ptr<Group> group) : rank_(rank), group_(std::move(group)) {}

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(group_->shown[0].size()); }

  absl::Status AllGather(std::span<const int32_t> mine, std::span<int32_t> all) override {
    // The caller may reuse `mine` at once, so a copy is shown.
    std::vector<int32_t>& copy = copies_[side_];
    copy.assign(mine.begin(), mine.end());
    ASSIGN_OR_RETURN(const std::vector<Shown>* shown, Show({copy, {}, nullptr}));
    auto to = all.begin();
    for (const Shown& peer : *shown) {
      CHECK(peer.numbers.size() == mine.size());
      to = std::copy(peer.numbers.begin(), peer.numbers.end(), to);
    }
    return absl::OkStatus();
  }

  absl::Status ExchangeRows(MatView matrix, const RowLists& give,
                            std::span<const int32_t> receive_counts,
                            std::vector<const void*>& received) override {
    ASSIGN_OR_RETURN(const std::vector<Shown>* shown, Show({{}, matrix, &give}));
    received.clear();
    for (int source = 0; source < size(); ++source) {
      const Shown& peer = (*shown)[source];
      CHECK(peer.give != nullptr);
      const int32_t begin = peer.give->begin[rank_];
      const int32_t end = peer.give->begin[rank_ + 1];
      CHECK(end - begin == receive_counts[source]);
      const auto* data = static_cast<const char*>(peer.matrix.data);
      const int64_t row_bytes = peer.matrix.stride * static_cast<int64_t>(SizeOf(peer.matrix.type));
      for (int32_t i = begin; i < end; ++i) {
        received.push_back(data + peer.give->rows[i] * row_bytes);
      }
    }
    return absl::OkStatus();
  }

  void Fail(const absl::Status& why) override { group_->barrier.Fail(why); }

 private:
  absl::StatusOr<const std::vector<Shown>*> Show(Shown mine) {
    std::vector<Shown>& side = group_->shown[side_];
    side_ = 1 - side_;
    side[rank_] = mine;
    RETURN_IF_ERROR(group_->barrier.Arrive());
    return &side;
  }

  const int rank_;
  const std::shared_ptr<Group> group_;
  int side_ = 0;
  std::array<std::vector<int32_t>, 2> copies_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> MakeInProcessCommunicators(
    int ranks, std::chrono::milliseconds deadline) {
  auto group = std::make_shared<Group>(ranks, deadline);
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (int rank = 0; rank < ranks; ++rank) {
    communicators.push_back(std::make_unique<InProcess>(rank, group));
  }
  return communicators;
}

}  // namespace ballast
