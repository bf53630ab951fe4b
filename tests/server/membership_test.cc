#include "server/membership.h"

#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr milliseconds kLong = std::chrono::minutes(1);

const std::vector<JoinFact> kFacts = {{"version", "1"}, {"checkpoint", "abc"}};

Joiner Rank(int rank, std::vector<JoinFact> facts = kFacts, int world_size = 3) {
  return {rank, world_size, std::move(facts), "ipv4:10.0.0." + std::to_string(rank)};
}

TEST(Membership, AllMayComeInAnyOrder) {
  std::vector<std::string> news;
  Membership membership(3, kFacts, [&](bool warning, const std::string& text) {
    EXPECT_FALSE(warning);
    news.push_back(text);
  });
  EXPECT_EQ(membership.Join(Rank(2)), absl::OkStatus());
  EXPECT_EQ(membership.Join(Rank(1)), absl::OkStatus());
  EXPECT_EQ(membership.Gather(kLong), absl::OkStatus());
  EXPECT_EQ(membership.AwaitAll([] { return false; }), absl::OkStatus());
  EXPECT_THAT(news, ElementsAre("rank 2 has joined, from ipv4:10.0.0.2",
                                "rank 1 has joined, from ipv4:10.0.0.1"));
}

TEST(Membership, ALeaderAloneIsComplete) {
  Membership membership(1, kFacts, {});
  EXPECT_EQ(membership.Gather(milliseconds(0)), absl::OkStatus());
}

TEST(Membership, NamesTheRanksThatDidNotCome) {
  Membership membership(4, kFacts, {});
  EXPECT_EQ(membership.Join(Rank(2, kFacts, 4)), absl::OkStatus());
  const absl::Status late = membership.Gather(milliseconds(500));
  EXPECT_EQ(late, absl::DeadlineExceededError("ranks 1, 3 of 4 have not joined within 0.5 s"));
  EXPECT_EQ(membership.AwaitAll([] { return false; }), late) << "who waits hears it too";
  EXPECT_EQ(membership.Join(Rank(1, kFacts, 4)), late) << "and who comes later";
}

TEST(Membership, RefusesASecondOneOfARankAndSaysWhenceBothCome) {
  Membership membership(3, kFacts, {});
  EXPECT_EQ(membership.Join(Rank(1)), absl::OkStatus());
  Joiner other = Rank(1);
  other.from = "ipv4:10.9.9.9";
  EXPECT_EQ(membership.Join(other),
            absl::AlreadyExistsError("rank 1 has joined already, from ipv4:10.0.0.1; this one "
                                     "comes from ipv4:10.9.9.9"));
  EXPECT_EQ(membership.Join(Rank(0)).code(), absl::StatusCode::kAlreadyExists);
}

TEST(Membership, RefusesAnotherCheckpointAndNamesAllThatDiffersWithBothValues) {
  Membership membership(3, kFacts, {});
  const absl::Status status = membership.Join(Rank(1, {{"version", "2"}, {"checkpoint", "abd"}}));
  EXPECT_EQ(status,
            absl::FailedPreconditionError("version: rank 1 has 2, the leader 1; checkpoint: rank 1 "
                                          "has abd, the leader abc"));
  EXPECT_THAT(std::string(membership.Join(Rank(1, {{"version", "1"}})).message()),
              HasSubstr("checkpoint: rank 1 has nothing, the leader abc"));
  EXPECT_THAT(std::string(membership.Gather(milliseconds(1)).message()),
              HasSubstr("refused last: checkpoint: rank 1 has nothing"));
}

TEST(Membership, RefusesAnotherWorldSizeAndRanksThatThereAreNot) {
  Membership membership(3, kFacts, {});
  EXPECT_THAT(std::string(membership.Join(Rank(1, kFacts, 2)).message()),
              HasSubstr("--world-size: rank 1 has 2, the leader 3"));
  EXPECT_EQ(membership.Join(Rank(3)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(membership.Join(Rank(-1)).code(), absl::StatusCode::kInvalidArgument);
}

TEST(Membership, WhoLeavesBeforeAllAreThereMayComeAgain) {
  Membership membership(3, kFacts, {});
  EXPECT_EQ(membership.Join(Rank(1)), absl::OkStatus());
  EXPECT_EQ(membership.AwaitAll([] { return true; }).code(), absl::StatusCode::kCancelled);
  membership.Leave(1);
  EXPECT_EQ(membership.Join(Rank(1)), absl::OkStatus());
  EXPECT_EQ(membership.Join(Rank(2)), absl::OkStatus());
  membership.Leave(1);  // too late: the world is there
  EXPECT_EQ(membership.Join(Rank(1)).code(), absl::StatusCode::kAlreadyExists);
}

TEST(Membership, FailEndsAllWaits) {
  Membership membership(3, kFacts, {});
  std::thread other([&] { membership.Fail(absl::UnavailableError("over")); });
  EXPECT_EQ(membership.Gather(kLong), absl::UnavailableError("over"));
  other.join();
}

}  // namespace
}  // namespace ballast
