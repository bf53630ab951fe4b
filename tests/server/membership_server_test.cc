#include "server/membership_server.h"

#include <future>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/membership_client.h"
#include "tests/support/free_address.h"

namespace ballast {
namespace {

using std::chrono::milliseconds;
using test::FreeAddress;
using testing::HasSubstr;

constexpr milliseconds kLong = std::chrono::minutes(1);
const std::vector<JoinFact> kFacts = {{"checkpoint", "abc"}};

// A leader that gathers a world.
struct Leader {
  explicit Leader(int size) : membership(size, kFacts, {}) { Start(size); }
  void Start(int size) {
    auto started = MembershipServer::Start(address, size, 7, membership, rendezvous);
    EXPECT_EQ(started.status(), absl::OkStatus());
    if (started.ok()) server = *std::move(started);
  }
  std::string address = FreeAddress();
  MemoryRendezvous rendezvous;
  Membership membership;
  std::unique_ptr<MembershipServer> server;
};

TEST(MembershipServer, RanksJoinAndTellEachOtherValues) {
  Leader leader(3);
  std::vector<std::thread> ranks;
  for (int rank = 1; rank < 3; ++rank) {
    ranks.emplace_back([&, rank] {
      MembershipClient client(leader.address);
      const absl::StatusOr<uint64_t> epoch = client.Join(rank, 3, kFacts, kLong);
      ASSERT_EQ(epoch.status(), absl::OkStatus());
      EXPECT_EQ(*epoch, 7u);
      const std::string mine("\xff\0 not UTF-8", 12);
      ASSERT_EQ(client.Set("from/" + std::to_string(rank), mine), absl::OkStatus());
      EXPECT_EQ(client.Get("from/" + std::to_string(3 - rank), kLong).value_or(""), mine);
      EXPECT_EQ(client.Get("leader", kLong).value_or(""), "hello");
    });
  }
  EXPECT_EQ(leader.membership.Gather(kLong), absl::OkStatus());
  EXPECT_EQ(leader.rendezvous.Set("leader", "hello"), absl::OkStatus());
  for (std::thread& rank : ranks) rank.join();
}

TEST(MembershipServer, ARankMayStartBeforeItsLeader) {
  const std::string address = FreeAddress();
  std::thread rank([&] {
    MembershipClient client(address);
    EXPECT_EQ(client.Join(1, 2, kFacts, kLong).status(), absl::OkStatus());
  });
  std::this_thread::sleep_for(milliseconds(300));  // most likely it has asked by then
  MemoryRendezvous rendezvous;
  Membership membership(2, kFacts, {});
  const auto server = MembershipServer::Start(address, 2, 1, membership, rendezvous);
  ASSERT_EQ(server.status(), absl::OkStatus());
  EXPECT_EQ(membership.Gather(kLong), absl::OkStatus());
  rank.join();
}

TEST(MembershipServer, RefusalsReachTheRankAsTheyAre) {
  Leader leader(3);
  MembershipClient client(leader.address);
  EXPECT_EQ(client.Join(1, 3, {{"checkpoint", "xyz"}}, kLong).status(),
            absl::FailedPreconditionError("leader " + leader.address +
                                          ": checkpoint: rank 1 has xyz, the leader abc"));
  EXPECT_EQ(client.Join(0, 3, kFacts, kLong).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST(MembershipServer, WhoWaitsHearsWhoDidNotCome) {
  Leader leader(3);
  std::thread rank([&] {
    MembershipClient client(leader.address);
    const absl::Status status = client.Join(1, 3, kFacts, kLong).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), HasSubstr("not joined within"));
  });
  EXPECT_FALSE(leader.membership.Gather(milliseconds(1)).ok());
  rank.join();
}

TEST(MembershipServer, ARankThatGivesUpLeavesItsPlace) {
  std::promise<void> gone;
  MemoryRendezvous rendezvous;
  Membership membership(3, kFacts, [&](bool warning, const std::string&) {
    if (warning) gone.set_value();
  });
  const std::string address = FreeAddress();
  const auto server = MembershipServer::Start(address, 3, 1, membership, rendezvous);
  ASSERT_EQ(server.status(), absl::OkStatus());
  EXPECT_EQ(MembershipClient(address).Join(1, 3, kFacts, milliseconds(200)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  ASSERT_EQ(gone.get_future().wait_for(kLong), std::future_status::ready);
  std::thread second([&] {
    EXPECT_EQ(MembershipClient(address).Join(2, 3, kFacts, kLong).status(), absl::OkStatus());
  });
  EXPECT_EQ(MembershipClient(address).Join(1, 3, kFacts, kLong).status(), absl::OkStatus());
  second.join();
}

TEST(MembershipServer, ARankWhoseLeaderSaysNothingSaysSo) {
  Leader leader(3);  // rank 2 never comes, and nobody gathers
  const absl::Status status =
      MembershipClient(leader.address).Join(1, 3, kFacts, milliseconds(50)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("leader " + leader.address + ": did not say within 0.05 s that all ranks"));
}

TEST(MembershipServer, ALeaderWithItsHandsFullIsAskedAgain) {
  Leader leader(2);
  std::vector<std::thread> crowd;
  for (int i = 0; i < 64; ++i) {
    crowd.emplace_back([&] { (void)MembershipClient(leader.address).Get("open", kLong); });
  }
  std::this_thread::sleep_for(milliseconds(300));  // most likely they all wait by then
  std::thread rank([&] {
    EXPECT_EQ(MembershipClient(leader.address).Join(1, 2, kFacts, kLong).status(),
              absl::OkStatus());
  });
  std::this_thread::sleep_for(milliseconds(300));  // likewise
  EXPECT_EQ(leader.rendezvous.Set("open", ""), absl::OkStatus());
  EXPECT_EQ(leader.membership.Gather(kLong), absl::OkStatus());
  rank.join();
  for (std::thread& one : crowd) one.join();
}

TEST(MembershipServer, ALeaderThatIsNotThereIsNamedWithinTheLimit) {
  const std::string address = FreeAddress();
  MembershipClient client(address);
  const absl::Status status = client.Join(1, 2, kFacts, milliseconds(300)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("leader " + address));
}

TEST(MembershipServer, AnAddressThatIsTakenIsAnError) {
  Leader leader(2);
  const absl::Status status =
      MembershipServer::Start(leader.address, 2, 1, leader.membership, leader.rendezvous).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("--leader " + leader.address));
}

}  // namespace
}  // namespace ballast
