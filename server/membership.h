// Who has joined the world that a leader gathers, and who may. No gRPC: membership_server.h speaks
// it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "engine/join_facts.h"
#include "engine/status.h"

namespace ballast {

// A rank as it introduces itself.
struct Joiner {
  int rank = 0;
  int world_size = 0;
  std::vector<JoinFact> facts;
  std::string from;  // its address, for messages
};

// Any thread.
class Membership {
 public:
  // `facts` are the leader's, which is rank 0 and has joined. `on_news(warning, text)` tells of
  // joins and refusals; may be empty.
  Membership(int world_size, std::vector<JoinFact> facts,
             std::function<void(bool warning, const std::string& text)> on_news);

  // Lets a rank in. FAILED_PRECONDITION: its facts are not the leader's; every one that differs is
  // named, with both values. ALREADY_EXISTS: it has joined. INVALID_ARGUMENT: there is no such
  // rank.
  absl::Status Join(const Joiner& joiner);
  // It has gone again before all had joined; its place is free.
  void Leave(int rank);
  // Waits until all have joined, it has failed, or `gone` says so (asked now and then; CANCELLED).
  absl::Status AwaitAll(const std::function<bool()>& gone);
  // Waits until all have joined. DEADLINE_EXCEEDED names the ranks that have not and, if any was
  // refused, the last refusal; AwaitAll then fails alike.
  absl::Status Gather(std::chrono::milliseconds limit);
  // Every wait ends, and nobody can join any more.
  void Fail(const absl::Status& why);

 private:
  absl::Status CheckJoiner(const Joiner& joiner) const;
  bool Complete() const;                                        // mutex_ held
  absl::Status Missing(std::chrono::milliseconds limit) const;  // mutex_ held

  const int world_size_;
  const std::vector<JoinFact> facts_;
  const std::function<void(bool warning, const std::string& text)> on_news_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> joined_;  // [world_size] whence; empty: not yet; guarded by mutex_
  bool formed_ = false;              // guarded by mutex_; all have joined, for good
  std::string last_refusal_;         // guarded by mutex_
  absl::Status failure_;             // guarded by mutex_
};

}  // namespace ballast
