#include "server/membership.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace ballast {
namespace {

// How often a call that waits looks whether its caller is still there.
constexpr std::chrono::milliseconds kGonePoll(200);

const JoinFact* FindFact(const std::vector<JoinFact>& facts, const std::string& name) {
  const auto found = std::find_if(facts.begin(), facts.end(),
                                  [&](const JoinFact& fact) { return fact.name == name; });
  return found == facts.end() ? nullptr : &*found;
}

}  // namespace

Membership::Membership(int world_size, std::vector<JoinFact> facts,
                       std::function<void(bool warning, const std::string& text)> on_news)
    : world_size_(world_size),
      facts_(std::move(facts)),
      on_news_(std::move(on_news)),
      joined_(static_cast<size_t>(world_size)) {
  joined_[0] = "the leader";
}

absl::Status Membership::CheckJoiner(const Joiner& joiner) const {
  if (joiner.world_size != world_size_) {
    return absl::FailedPreconditionError(absl::StrCat("--world-size: rank ", joiner.rank, " has ",
                                                      joiner.world_size, ", the leader ",
                                                      world_size_));
  }
  if (joiner.rank < 0 || joiner.rank >= world_size_) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rank: found ", joiner.rank, ", expected 1 to ", world_size_ - 1));
  }
  std::vector<std::string> differences;
  for (const JoinFact& fact : facts_) {
    const JoinFact* theirs = FindFact(joiner.facts, fact.name);
    const std::string value = theirs == nullptr ? "nothing" : theirs->value;
    if (value == fact.value) continue;
    differences.push_back(absl::StrCat(fact.name, ": rank ", joiner.rank, " has ", value,
                                       ", the leader ", fact.value));
  }
  if (differences.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrJoin(differences, "; "));
}

bool Membership::Complete() const {
  return std::none_of(joined_.begin(), joined_.end(),
                      [](const std::string& from) { return from.empty(); });
}

absl::Status Membership::Join(const Joiner& joiner) {
  absl::Status status = CheckJoiner(joiner);
  {
    const std::lock_guard lock(mutex_);
    RETURN_IF_ERROR(failure_);
    if (status.ok()) {
      std::string& place = joined_[static_cast<size_t>(joiner.rank)];
      if (!place.empty()) {
        status = absl::AlreadyExistsError(absl::StrCat("rank ", joiner.rank,
                                                       " has joined already, from ", place,
                                                       "; this one comes from ", joiner.from));
      } else {
        place = joiner.from;
        formed_ = Complete();
      }
    }
    if (!status.ok()) last_refusal_ = std::string(status.message());
  }
  changed_.notify_all();
  if (!on_news_) return status;
  if (status.ok()) {
    on_news_(false, absl::StrCat("rank ", joiner.rank, " has joined, from ", joiner.from));
  } else {
    on_news_(true, absl::StrCat("a rank was refused: ", std::string(status.message())));
  }
  return status;
}

void Membership::Leave(int rank) {
  {
    const std::lock_guard lock(mutex_);
    if (formed_) return;
    joined_[static_cast<size_t>(rank)].clear();
  }
  if (on_news_) on_news_(true, absl::StrCat("rank ", rank, " has gone before all had joined"));
}

absl::Status Membership::AwaitAll(const std::function<bool()>& gone) {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait_for(lock, kGonePoll, [this] { return formed_ || !failure_.ok(); });
    RETURN_IF_ERROR(failure_);
    if (formed_) return absl::OkStatus();
    if (gone()) return absl::CancelledError("the rank has gone");
  }
}

absl::Status Membership::Missing(std::chrono::milliseconds limit) const {
  std::vector<int> missing;
  for (int rank = 0; rank < world_size_; ++rank) {
    if (joined_[static_cast<size_t>(rank)].empty()) missing.push_back(rank);
  }
  return absl::DeadlineExceededError(
      absl::StrCat(missing.size() == 1 ? "rank " : "ranks ", absl::StrJoin(missing, ", "), " of ",
                   world_size_, missing.size() == 1 ? " has" : " have", " not joined within ",
                   static_cast<double>(limit.count()) / 1000, " s",
                   last_refusal_.empty() ? "" : "; refused last: ", last_refusal_));
}

absl::Status Membership::Gather(std::chrono::milliseconds limit) {
  absl::Status failure;
  {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, limit, [this] {
      formed_ = Complete();
      return formed_ || !failure_.ok();
    });
    if (formed_) return absl::OkStatus();
    failure = failure_.ok() ? Missing(limit) : failure_;
  }
  Fail(failure);
  return failure;
}

void Membership::Fail(const absl::Status& why) {
  {
    const std::lock_guard lock(mutex_);
    if (failure_.ok()) failure_ = why;
  }
  changed_.notify_all();
}

}  // namespace ballast
