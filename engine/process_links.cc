#include "engine/process_links.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/unit.h"

namespace ballast {
namespace {

// Longer than the longest legal step: a rank that computes is heard of by its heartbeat, so this
// only turns a bug's hang into an error.
constexpr std::chrono::minutes kExchangeDeadline(10);

class LentRows final : public Communicator {
 public:
  explicit LentRows(Communicator& rows) : rows_(rows) {}
  int rank() const override { return rows_.rank(); }
  int size() const override { return rows_.size(); }
  absl::Status AllGather(std::span<const int32_t> mine, std::span<int32_t> all) override {
    return rows_.AllGather(mine, all);
  }
  absl::Status ExchangeRows(MatView matrix, const RowLists& give,
                            std::span<const int32_t> receive_counts,
                            std::vector<const void*>& received) override {
    return rows_.ExchangeRows(matrix, give, receive_counts, received);
  }

 private:
  Communicator& rows_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ProcessLinks>> ProcessLinks::Connect(const ProcessGroup& group,
                                                                    const Device& device) {
  std::unique_ptr<ProcessLinks> links(new ProcessLinks(group));
  Meeting meeting;
  meeting.rank = group.rank;
  meeting.size = group.size;
  meeting.address = group.address;
  meeting.prefix = absl::StrCat("epoch-", group.epoch);
  meeting.rendezvous = group.rendezvous;
  meeting.limit = group.connect_limit;
  // One thread for what is short and waited for, another for what is long.
  ASSIGN_OR_RETURN(meeting.device, MakeGlooDevice(group.address));
  ASSIGN_OR_RETURN(links->plans_, GlooMesh::Connect(meeting, "plans"));
  ASSIGN_OR_RETURN(std::unique_ptr<GlooMesh> rows, GlooMesh::Connect(meeting, "rows"));
  ASSIGN_OR_RETURN(std::unique_ptr<GlooMesh> heartbeats, GlooMesh::Connect(meeting, "heartbeats"));
  ASSIGN_OR_RETURN(meeting.device, MakeGlooDevice(group.address));
  ASSIGN_OR_RETURN(links->weights_, GlooMesh::Connect(meeting, "weights"));
  ASSIGN_OR_RETURN(links->migration_, GlooMesh::Connect(meeting, "migration"));
  const int unit = UnitOfRank(device, group.rank);
  auto staging = device.host_memory ? nullptr : std::make_unique<RowStaging>(device, unit);
  links->rows_ =
      std::make_unique<GlooCommunicator>(std::move(rows), kExchangeDeadline, std::move(staging));
  links->lending_ =
      std::make_unique<GlooWeights>(*links->weights_, device, unit, kExchangeDeadline);
  links->heartbeat_ = std::make_unique<GlooHeartbeat>(
      std::move(heartbeats), group.silence,
      [at = links.get()](const absl::Status& why) { at->Fail(why); });
  return links;
}

ProcessLinks::~ProcessLinks() = default;

std::unique_ptr<Communicator> ProcessLinks::LendRows() {
  return std::make_unique<LentRows>(*rows_);
}

void ProcessLinks::Fail(const absl::Status& why) {
  const std::lock_guard lock(mutex_);
  if (!failure_.ok()) return;
  failure_ = why;
  failed_.notify_all();
  plans_->Fail(why);
  weights_->Fail(why);
  migration_->Fail(why);
  if (rows_ != nullptr) rows_->Fail(why);
}

void ProcessLinks::CloseRows() {
  const std::lock_guard lock(mutex_);
  rows_.reset();
}

absl::Status ProcessLinks::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

absl::Status ProcessLinks::Explain(const absl::Status& seen,
                                   std::chrono::milliseconds limit) const {
  std::unique_lock lock(mutex_);
  failed_.wait_for(lock, limit, [this] { return !failure_.ok(); });
  return failure_.ok() ? seen : failure_;
}

}  // namespace ballast
