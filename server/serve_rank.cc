#include "server/serve_rank.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/comm/memory_rendezvous.h"
#include "engine/follower.h"
#include "engine/join_facts.h"
#include "server/commands.h"
#include "server/local_address.h"
#include "server/membership.h"
#include "server/membership_client.h"
#include "server/membership_server.h"

namespace ballast {
namespace {

using Clock = std::chrono::steady_clock;

// Of the first world; it grows when a world is gathered again.
constexpr uint64_t kFirstEpoch = 1;
constexpr std::chrono::milliseconds kStopPoll(250);
constexpr std::chrono::seconds kProgressInterval(1);
// What the leader needs beyond its drain limit to answer and to say goodbye.
constexpr std::chrono::seconds kLeaderEnds(15);

std::chrono::milliseconds Milliseconds(double seconds) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::duration<double>(seconds));
}

std::string HostPort(const std::string& host, int port) {
  const bool bare_ipv6 = host.find(':') != std::string::npos;
  return bare_ipv6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

// Which build this is stands first: after that the rest may differ for that reason.
absl::StatusOr<std::vector<JoinFact>> Facts(const ServeOptions& options) {
  std::vector<JoinFact> facts = {
      {"version", BALLAST_VERSION},
      {"--peer-timeout", absl::StrCat(options.peer_timeout_seconds, " s")}};
  ASSIGN_OR_RETURN(std::vector<JoinFact> engine, ReadJoinFacts(options.engine));
  facts.insert(facts.end(), engine.begin(), engine.end());
  return facts;
}

absl::StatusOr<ProcessGroup> GroupOf(const ServeOptions& options, const Launch& launch,
                                     Rendezvous* rendezvous) {
  ProcessGroup group;
  group.rank = launch.rank;
  group.size = launch.size;
  group.epoch = kFirstEpoch;
  group.nccl = options.engine.communicator == "nccl";
  group.rendezvous = rendezvous;
  group.silence = Milliseconds(options.peer_timeout_seconds);
  group.address = options.interface;
  if (group.address.empty()) {
    ASSIGN_OR_RETURN(group.address, AddressTowards(launch.leader_host, launch.leader_port));
  }
  return group;
}

void LogLaunch(const Launch& launch, Log& log) {
  log.Info("rank", {{"rank", launch.rank},
                    {"world_size", launch.size},
                    {"leader", HostPort(launch.leader_host, launch.leader_port)},
                    {"launched_by", launch.convention}});
}

// Launchers ask all processes to stop at once, but the others have to stay until the leader has
// drained; a rank that is asked alone takes the world down with it when the time is up.
class LateStop {
 public:
  LateStop(StopRequest& stop, double drain_seconds, Log& log)
      : thread_([this, &stop, drain_seconds, &log] { Watch(stop, drain_seconds, log); }) {}
  ~LateStop() {
    ended_ = true;
    thread_.join();
  }

 private:
  void Watch(StopRequest& stop, double drain_seconds, Log& log) {
    while (!stop.WaitFor(kStopPoll)) {
      if (ended_) return;
    }
    log.Info("asked to stop; the leader is waited for",
             {{"limit_seconds", drain_seconds + static_cast<double>(kLeaderEnds.count())}});
    const Clock::time_point end = Clock::now() + Milliseconds(drain_seconds) + kLeaderEnds;
    while (!ended_ && Clock::now() < end) std::this_thread::sleep_for(kStopPoll);
    if (ended_) return;
    log.Error("stopped, though the leader has not");
    std::_Exit(kFailed);
  }

  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

}  // namespace

struct RankGathering::Parts {
  MemoryRendezvous rendezvous;
  std::unique_ptr<Membership> membership;
  std::unique_ptr<MembershipServer> server;  // last: it uses both
  ProcessGroup group;
};

RankGathering::RankGathering(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
RankGathering::~RankGathering() = default;

const ProcessGroup& RankGathering::group() const { return parts_->group; }

absl::StatusOr<std::unique_ptr<RankGathering>> RankGathering::Gather(const ServeOptions& options,
                                                                     const Launch& launch,
                                                                     Log& log) {
  LogLaunch(launch, log);
  auto parts = std::make_unique<Parts>();
  ASSIGN_OR_RETURN(parts->group, GroupOf(options, launch, &parts->rendezvous));
  ASSIGN_OR_RETURN(std::vector<JoinFact> facts, Facts(options));
  parts->membership = std::make_unique<Membership>(
      launch.size, std::move(facts), [&log](bool warning, const std::string& text) {
        log.Write(warning ? LogLevel::kWarning : LogLevel::kInfo, text, {});
      });
  const std::string host = options.interface.empty() ? launch.leader_host : options.interface;
  ASSIGN_OR_RETURN(parts->server,
                   MembershipServer::Start(HostPort(host, launch.leader_port), launch.size,
                                           kFirstEpoch, *parts->membership, parts->rendezvous));
  log.Info("waiting for the other ranks", {{"limit_seconds", options.join_timeout_seconds}});
  RETURN_IF_ERROR(parts->membership->Gather(Milliseconds(options.join_timeout_seconds)));
  return std::unique_ptr<RankGathering>(new RankGathering(std::move(parts)));
}

absl::Status ServeRank(const ServeOptions& options, const Launch& launch, StopRequest& stop,
                       Log& log) {
  LogLaunch(launch, log);
  MembershipClient leader(HostPort(launch.leader_host, launch.leader_port));
  ASSIGN_OR_RETURN(const std::vector<JoinFact> facts, Facts(options));
  ASSIGN_OR_RETURN(const uint64_t epoch, leader.Join(launch.rank, launch.size, facts,
                                                     Milliseconds(options.join_timeout_seconds)));
  ASSIGN_OR_RETURN(ProcessGroup group, GroupOf(options, launch, &leader));
  group.epoch = epoch;
  log.Info("joined", {{"address", group.address}});

  const Clock::time_point start = Clock::now();
  Clock::time_point next = start;
  FollowerEvents events;
  events.on_loading = [&](size_t done, size_t total) {
    const Clock::time_point now = Clock::now();
    if (now < next || total == 0) return;
    next = now + kProgressInterval;
    log.Info("loading",
             {{"percent", done * 100 / total}, {"done_bytes", done}, {"total_bytes", total}});
  };
  events.on_loaded = [&] {
    stop.SetLoaded();
    log.Info("loaded", {{"seconds", std::chrono::duration<double>(Clock::now() - start).count()}});
  };
  const LateStop late(stop, options.drain_timeout_seconds, log);
  RETURN_IF_ERROR(RunFollower(options.engine, group, events));
  log.Info("stopped");
  return absl::OkStatus();
}

}  // namespace ballast
