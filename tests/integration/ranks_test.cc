// `ballast serve` as several processes: the same text, and what happens when one is missing, comes
// twice, has something else, dies or falls silent.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include "tests/integration/served_model.h"
#include "tests/support/free_address.h"

namespace ballast {
namespace {

using test::FreeAddress;
using ::testing::HasSubstr;

constexpr char kOtherModel[] = BALLAST_SOURCE_DIR "/tests/data/goldens/mixtral";

using Arguments = std::vector<std::string>;

Arguments Joined(Arguments a, const Arguments& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// The processes of one world.
class World {
 public:
  explicit World(int size) : size_(size) {}

  Arguments RankOptions(int rank) const {
    return {"--communicator",     "gloo",     "--world-size", std::to_string(size_), "--rank",
            std::to_string(rank), "--leader", leader_,        "--threads",           "1",
            "--kv-memory",        "32MiB"};
  }
  std::unique_ptr<Process> StartRank(int rank, const Arguments& more = {}) const {
    return std::make_unique<Process>(ServeCommand(Joined(RankOptions(rank), more)));
  }
  // All of them; the leader serves.
  void Start(const Arguments& more = {}) {
    for (int rank = 1; rank < size_; ++rank) others_.push_back(StartRank(rank, more));
    leader_model_ = std::make_unique<ServedModel>(Joined(RankOptions(0), more));
  }
  ServedModel& leader() { return *leader_model_; }
  Process& other(int rank) { return *others_[static_cast<size_t>(rank - 1)]; }
  int size() const { return size_; }

 private:
  const int size_;
  const std::string leader_ = FreeAddress();
  std::vector<std::unique_ptr<Process>> others_;
  std::unique_ptr<ServedModel> leader_model_;
};

// What the model says, drawn and greedy, with the bits of its log-probabilities.
std::string Answers(ServedModel& server) {
  std::string all;
  for (const char* prompt : {"The experts", "Once upon a time", "1 + 1 ="}) {
    for (const float temperature : {0.0f, 0.9f}) {
      v1::GenerateRequest request = Ask(prompt, 40);
      request.set_request_id("same");
      request.mutable_sampling()->set_temperature(temperature);
      request.mutable_sampling()->set_seed(5);
      request.mutable_response()->set_logprobs(0);
      request.set_bypass_prefix_cache(true);
      v1::GenerateResponse response;
      const grpc::Status status = server.stub().Generate(Context().get(), request, &response);
      EXPECT_TRUE(status.ok()) << status.error_message();
      all += response.SerializeAsString();
    }
  }
  return all;
}

TEST(Ranks, ProcessesGiveTheBitsOfOneRankAndEndWithTheirLeader) {
  ServedModel alone({"--threads", "1", "--kv-memory", "32MiB"});
  const std::string want = Answers(alone);
  alone.Stop();
  for (const int size : {2, 4}) {
    World world(size);
    world.Start();
    EXPECT_EQ(Answers(world.leader()), want) << size;
    world.leader().Stop();
    for (int rank = 1; rank < size; ++rank) {
      EXPECT_TRUE(world.other(rank).WaitForEnd());
      const Finished ended = world.other(rank).Wait();
      EXPECT_EQ(ended.code, 0) << ended.err;
      EXPECT_THAT(ended.err, HasSubstr("info stopped"));
    }
  }
}

TEST(Ranks, ARankThatIsAskedToStopStaysUntilTheLeaderDoes) {
  World world(2);
  world.Start();
  world.other(1).Signal(SIGTERM);
  EXPECT_TRUE(world.other(1).WaitForErr("the leader is waited for"));
  EXPECT_FALSE(Answers(world.leader()).empty());
  world.leader().Stop();
  EXPECT_EQ(world.other(1).Wait().code, 0);
}

TEST(Ranks, ARankThatIsMissingIsNamedWithinTheDeadline) {
  World world(3);
  const auto one = world.StartRank(1, {"--join-timeout", "2s"});
  const auto leader = world.StartRank(0, {"--join-timeout", "2s"});
  EXPECT_TRUE(leader->WaitForEnd());
  const Finished ended = leader->Wait();
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("not joined within 2 s"));
  EXPECT_THAT(ended.err, HasSubstr("2 of 3 ha"));  // rank 1 too, where it was slow to come
  EXPECT_TRUE(one->WaitForEnd());
  EXPECT_EQ(one->Wait().code, 1);
}

TEST(Ranks, ALeaderThatIsMissingIsNamedWithinTheDeadline) {
  World world(2);
  const auto one = world.StartRank(1, {"--join-timeout", "1s"});
  EXPECT_TRUE(one->WaitForEnd());
  const Finished ended = one->Wait();
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("not there within 1 s"));
}

TEST(Ranks, ARankThatJoinsTwiceIsRefusedAndTheFirstServes) {
  World world(2);
  world.Start();
  const auto again = world.StartRank(1);
  EXPECT_TRUE(again->WaitForEnd());
  const Finished ended = again->Wait();
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("rank 1 has joined already"));
  EXPECT_FALSE(Answers(world.leader()).empty());
  world.leader().Stop();
}

TEST(Ranks, AnotherCheckpointIsRefusedWithBothValues) {
  World world(2);
  Arguments command = ServeCommand(Joined(world.RankOptions(1), {"--join-timeout", "30s"}));
  command[2] = kOtherModel;
  Process other(command);
  const auto leader = world.StartRank(0, {"--join-timeout", "8s"});
  EXPECT_TRUE(other.WaitForEnd());
  const Finished ended = other.Wait();
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("checkpoint: rank 1 has "));
  EXPECT_THAT(ended.err, HasSubstr(", the leader "));
  EXPECT_TRUE(leader->WaitForEnd());
  EXPECT_EQ(leader->Wait().code, 1);
  EXPECT_THAT(leader->Err(), HasSubstr("refused last: checkpoint: rank 1 has "));
}

void ExpectLossIsTold(World& world, const std::string& why) {
  Running running(world.leader().stub(), AskForever("long"));
  world.other(1).Signal(why == "silent" ? SIGSTOP : SIGKILL);
  const grpc::Status status = running.ReadToTheEnd();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("rank 1 is " + why));
  world.leader().Disconnect();
  EXPECT_TRUE(world.leader().process().WaitForEnd());
  const Finished ended = world.leader().process().Wait();
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("error ranks are lost error=\"rank 1 is " + why));
}

TEST(Ranks, ARankThatDiesFailsWhatRunsAndIsNamed) {
  World world(2);
  world.Start();
  ExpectLossIsTold(world, "gone");
}

TEST(Ranks, ARankThatFallsSilentFailsWhatRunsAndIsNamed) {
  World world(3);
  world.Start({"--peer-timeout", "5s"});
  ExpectLossIsTold(world, "silent");
  EXPECT_TRUE(world.other(2).WaitForEnd());
  EXPECT_EQ(world.other(2).Wait().code, 1);
}

TEST(Ranks, ARankThatDiesWhileNothingRunsIsNamedToo) {
  World world(2);
  world.Start();
  world.other(1).Signal(SIGKILL);
  EXPECT_TRUE(world.leader().process().WaitForEnd());
  EXPECT_THAT(world.leader().process().Err(), HasSubstr("rank 1 is gone"));
}

TEST(Ranks, RanksEndWhenTheirLeaderDies) {
  World world(2);
  world.Start();
  world.leader().process().Signal(SIGKILL);
  EXPECT_TRUE(world.other(1).WaitForEnd());
  const Finished ended = world.other(1).Wait();
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("rank 0 is gone"));
}

TEST(Ranks, OptionsThatContradictEachOtherAreWrongUsage) {
  const auto refusal = [](const Arguments& more) {
    const Finished ended = RunProgram(ServeCommand(more));
    EXPECT_EQ(ended.code, 2);
    return ended.err;
  };
  EXPECT_THAT(refusal({"--communicator", "nccl"}),
              HasSubstr("found nccl with --device cpu, expected --device cuda"));
  EXPECT_THAT(refusal({"--communicator", "gloo", "--ranks", "2"}),
              HasSubstr("--ranks: found with --communicator gloo"));
  EXPECT_THAT(refusal({"--world-size", "2"}), HasSubstr("without --communicator gloo"));
  EXPECT_THAT(refusal({"--communicator", "gloo", "--world-size", "2", "--rank", "2", "--leader",
                       "127.0.0.1:7010"}),
              HasSubstr("--rank: found 2, expected 0 to 1"));
}

}  // namespace
}  // namespace ballast
