#include "engine/comm/memory_rendezvous.h"

#include "absl/strings/str_cat.h"

namespace ballast {

absl::Status MemoryRendezvous::Set(const std::string& key, const std::string& value) {
  {
    const std::lock_guard lock(mutex_);
    RETURN_IF_ERROR(failure_);
    const auto found = values_.find(key);
    const size_t freed = found == values_.end() ? 0 : key.size() + found->second.size();
    const size_t bytes = bytes_ - freed + key.size() + value.size();
    if (bytes > kMaxRendezvousBytes) {
      return absl::ResourceExhaustedError(absl::StrCat("rendezvous: \"", key, "\" would make it ",
                                                       bytes, " bytes, at most ",
                                                       kMaxRendezvousBytes, " are kept"));
    }
    bytes_ = bytes;
    values_[key] = value;
  }
  changed_.notify_all();
  return absl::OkStatus();
}

absl::StatusOr<std::string> MemoryRendezvous::Get(const std::string& key,
                                                  std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, limit, [&] { return !failure_.ok() || values_.contains(key); });
  RETURN_IF_ERROR(failure_);
  const auto found = values_.find(key);
  if (found == values_.end()) {
    return absl::DeadlineExceededError(
        absl::StrCat("rendezvous: nobody set \"", key, "\" within ", limit.count(), " ms"));
  }
  return found->second;
}

void MemoryRendezvous::Fail(const absl::Status& why) {
  {
    const std::lock_guard lock(mutex_);
    if (failure_.ok()) failure_ = why;
  }
  changed_.notify_all();
}

}  // namespace ballast
