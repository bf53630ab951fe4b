// A Rendezvous in this process' memory: what the leader keeps, and what threads meet through.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <string>

#include "engine/comm/rendezvous.h"
#include "engine/status.h"

namespace ballast {

// Any thread. Holds at most kMaxRendezvousBytes; more is RESOURCE_EXHAUSTED.
inline constexpr size_t kMaxRendezvousBytes = 64 << 20;

class MemoryRendezvous final : public Rendezvous {
 public:
  absl::Status Set(const std::string& key, const std::string& value) override;
  absl::StatusOr<std::string> Get(const std::string& key, std::chrono::milliseconds limit) override;

  // From now on every call fails with `why`, those that wait included. The first counts.
  void Fail(const absl::Status& why);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> values_;  // guarded by mutex_
  size_t bytes_ = 0;                           // guarded by mutex_
  absl::Status failure_;                       // guarded by mutex_
};

}  // namespace ballast
