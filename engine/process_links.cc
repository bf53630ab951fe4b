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
  void Fail(const absl::Status& why) override { rows_.Fail(why); }

 private:
  Communicator& rows_;
};

class LentWeights final : public WeightExchange {
 public:
  explicit LentWeights(WeightExchange& weights) : weights_(weights) {}
  absl::Status Start(std::span<const WeightBlock> sent,
                     std::span<const WeightBlock> received) override {
    return weights_.Start(sent, received);
  }
  absl::Status AwaitReceived() override { return weights_.AwaitReceived(); }
  absl::Status AwaitSent() override { return weights_.AwaitSent(); }
  void Fail(const absl::Status& why) override { weights_.Fail(why); }

 private:
  WeightExchange& weights_;
};

std::string PrefixOf(const ProcessGroup& group) { return absl::StrCat("epoch-", group.epoch); }

}  // namespace

absl::StatusOr<std::unique_ptr<ProcessLinks>> ProcessLinks::Connect(const ProcessGroup& group,
                                                                    const Device& device) {
  std::unique_ptr<ProcessLinks> links(new ProcessLinks(group));
  Meeting meeting;
  meeting.rank = group.rank;
  meeting.size = group.size;
  meeting.address = group.address;
  meeting.prefix = PrefixOf(group);
  meeting.rendezvous = group.rendezvous;
  meeting.limit = group.connect_limit;
  // One thread for what is short and waited for, another for what is long.
  ASSIGN_OR_RETURN(meeting.device, MakeGlooDevice(group.address));
  ASSIGN_OR_RETURN(links->plans_, GlooMesh::Connect(meeting, "plans"));
  RETURN_IF_ERROR(group.nccl ? links->ConnectNccl(device) : links->ConnectRows(meeting, device));
  ASSIGN_OR_RETURN(std::unique_ptr<GlooMesh> heartbeats, GlooMesh::Connect(meeting, "heartbeats"));
  ASSIGN_OR_RETURN(meeting.device, MakeGlooDevice(group.address));
  ASSIGN_OR_RETURN(links->migration_, GlooMesh::Connect(meeting, "migration"));
  if (!group.nccl) RETURN_IF_ERROR(links->ConnectWeights(meeting, device));
  links->heartbeat_ = std::make_unique<GlooHeartbeat>(
      std::move(heartbeats), group.silence,
      [at = links.get()](const absl::Status& why) { at->Fail(why); });
  return links;
}

ProcessLinks::~ProcessLinks() = default;

absl::Status ProcessLinks::ConnectRows(const Meeting& meeting, const Device& device) {
  ASSIGN_OR_RETURN(std::unique_ptr<GlooMesh> rows, GlooMesh::Connect(meeting, "rows"));
  std::unique_ptr<RowStaging> staging;
  if (!device.host_memory) {
    staging = std::make_unique<RowStaging>(device, UnitOfRank(device, group_.rank));
  }
  rows_ =
      std::make_unique<GlooCommunicator>(std::move(rows), kExchangeDeadline, std::move(staging));
  return absl::OkStatus();
}

absl::Status ProcessLinks::ConnectWeights(const Meeting& meeting, const Device& device) {
  ASSIGN_OR_RETURN(weights_, GlooMesh::Connect(meeting, "weights"));
  lending_ = std::make_unique<GlooWeights>(*weights_, device, UnitOfRank(device, group_.rank),
                                           kExchangeDeadline);
  return absl::OkStatus();
}

absl::Status ProcessLinks::ConnectNccl(const Device& device) {
  NcclMeeting meeting;
  meeting.rank = group_.rank;
  meeting.size = group_.size;
  meeting.unit = UnitOfRank(device, group_.rank);
  meeting.purpose = "rows";
  meeting.prefix = PrefixOf(group_);
  meeting.rendezvous = group_.rendezvous;
  meeting.limit = group_.connect_limit;
  ASSIGN_OR_RETURN(rows_, MakeNcclCommunicator(meeting, device, kExchangeDeadline));
  meeting.purpose = "weights";
  ASSIGN_OR_RETURN(lending_, MakeNcclWeights(meeting, device, kExchangeDeadline));
  return absl::OkStatus();
}

std::unique_ptr<Communicator> ProcessLinks::LendRows() {
  return std::make_unique<LentRows>(*rows_);
}

std::unique_ptr<WeightExchange> ProcessLinks::LendWeights() {
  return std::make_unique<LentWeights>(*lending_);
}

void ProcessLinks::Fail(const absl::Status& why) {
  const std::lock_guard lock(mutex_);
  if (!failure_.ok()) return;
  failure_ = why;
  failed_.notify_all();
  plans_->Fail(why);
  lending_->Fail(why);
  migration_->Fail(why);
  if (rows_ != nullptr) rows_->Fail(why);
}

void ProcessLinks::CloseRows() {
  std::unique_ptr<StampedCommunicator> closed;
  {
    const std::lock_guard lock(mutex_);
    closed = std::move(rows_);
  }
  // One over NCCL would wait for the others to part as well.
  if (closed != nullptr) closed->Fail(absl::CancelledError("the rank has ended"));
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
