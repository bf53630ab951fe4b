// A world of processes inside one: the leader's engine and, in a thread each, its followers. They
// meet in memory and talk over TCP on this machine.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/comm/memory_rendezvous.h"
#include "engine/follower.h"
#include "tests/support/run_engine.h"

namespace ballast::test {

class ProcessEngine {
 public:
  // options.ranks is the size of the world.
  explicit ProcessEngine(EngineOptions options, EngineEvents events = {})
      : ended_(static_cast<size_t>(options.ranks), absl::UnknownError("it runs")) {
    options.machine_ranks = options.ranks;
    ProcessGroup group;
    group.size = options.ranks;
    group.nccl = options.communicator == "nccl";
    group.rendezvous = &rendezvous_;
    group.silence = std::chrono::minutes(5);  // sanitizers are slow
    for (int rank = 1; rank < options.ranks; ++rank) {
      group.rank = rank;
      followers_.emplace_back([this, options, group, rank] {
        ended_[static_cast<size_t>(rank)] = RunFollower(options, group, {});
      });
    }
    group.rank = 0;
    auto engine = Engine::Create(
        options, std::move(events), [](size_t, size_t) {}, &group);
    EXPECT_TRUE(engine.ok()) << engine.status();
    if (engine.ok()) engine_ = *std::move(engine);
  }
  ~ProcessEngine() { Stop(); }

  Engine& operator*() { return *engine_; }
  Engine* operator->() { return engine_.get(); }

  // Ends the leader and waits for the others; how each ended [ranks], of the leader nothing.
  const std::vector<absl::Status>& Stop() {
    engine_.reset();
    for (std::thread& follower : followers_) follower.join();
    followers_.clear();
    return ended_;
  }

 private:
  MemoryRendezvous rendezvous_;
  std::vector<absl::Status> ended_;  // [ranks]
  std::unique_ptr<Engine> engine_;
  std::vector<std::thread> followers_;
};

}  // namespace ballast::test
