#include "server/launch.h"

#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

absl::StatusOr<Launch> Resolve(const LaunchOptions& options, const Variables& variables) {
  return ResolveLaunch(options, [&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

Launch Resolved(const LaunchOptions& options, const Variables& variables) {
  const absl::StatusOr<Launch> launch = Resolve(options, variables);
  EXPECT_EQ(launch.status(), absl::OkStatus());
  return launch.value_or(Launch{});
}

std::string Refused(const LaunchOptions& options, const Variables& variables) {
  const absl::Status status = Resolve(options, variables).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

void ExpectLaunch(const Launch& launch, int rank, int size, const std::string& leader,
                  const std::string& convention) {
  EXPECT_EQ(launch.rank, rank);
  EXPECT_EQ(launch.size, size);
  EXPECT_EQ(launch.leader_host + ":" + std::to_string(launch.leader_port), leader);
  EXPECT_EQ(launch.convention, convention);
}

const Variables kTorch = {{"RANK", "3"},
                          {"WORLD_SIZE", "4"},
                          {"MASTER_ADDR", "node1"},
                          {"MASTER_PORT", "29500"},
                          {"LOCAL_WORLD_SIZE", "2"}};
const Variables kLeaderWorkerSet = {{"LWS_WORKER_INDEX", "1"},
                                    {"LWS_GROUP_SIZE", "2"},
                                    {"LWS_LEADER_ADDRESS", "moe-0.moe.default"}};
const Variables kSlurm = {{"SLURM_PROCID", "5"},
                          {"SLURM_NTASKS", "8"},
                          {"SLURM_STEP_NODELIST", "gpu[003-010,12],login"},
                          {"SLURM_LAUNCH_NODE_IPADDR", "10.0.0.1"}};

TEST(Launch, FlagsAloneAreEnough) {
  const Launch launch = Resolved({"gloo", 2, 1, "10.1.2.3:7010"}, {});
  ExpectLaunch(launch, 1, 2, "10.1.2.3:7010", "flags");
  EXPECT_EQ(launch.machine_ranks, 1);
}

TEST(Launch, ALeaderOnThisMachineMeansAllRanksAre) {
  EXPECT_EQ(Resolved({"gloo", 4, 0, "127.0.0.1:7010"}, {}).machine_ranks, 4);
  EXPECT_EQ(Resolved({"gloo", 4, 0, "localhost:7010"}, {}).machine_ranks, 4);
  const Launch v6 = Resolved({"gloo", 4, 0, "[::1]:7010"}, {});
  EXPECT_EQ(v6.machine_ranks, 4);
  EXPECT_EQ(v6.leader_host, "::1");
}

TEST(Launch, ReadsEachLaunchersVariables) {
  const Launch torch = Resolved({}, kTorch);
  ExpectLaunch(torch, 3, 4, "node1:29500", "torchrun");
  EXPECT_EQ(torch.machine_ranks, 2);
  ExpectLaunch(Resolved({}, kLeaderWorkerSet), 1, 2, "moe-0.moe.default:7010", "LeaderWorkerSet");
  ExpectLaunch(Resolved({}, kSlurm), 5, 8, "gpu003:7010", "Slurm");
  LaunchOptions leader;
  leader.leader = "a:1";
  ExpectLaunch(Resolved(leader, {{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "2"}}), 0,
               2, "a:1", "Open MPI");
  ExpectLaunch(Resolved(leader, {{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}), 1, 2, "a:1", "MPI (PMI)");
}

TEST(Launch, TheFirstLauncherInOrderCounts) {
  Variables all = kSlurm;
  all.insert(kLeaderWorkerSet.begin(), kLeaderWorkerSet.end());
  EXPECT_EQ(Resolved({}, all).convention, "LeaderWorkerSet");
  all.insert(kTorch.begin(), kTorch.end());
  EXPECT_EQ(Resolved({}, all).convention, "torchrun");
  all.erase("WORLD_SIZE");  // not torchrun's after all
  EXPECT_EQ(Resolved({}, all).convention, "LeaderWorkerSet");
}

TEST(Launch, FlagsWinOverVariablesOneByOne) {
  LaunchOptions options;
  options.leader = "other:99";
  ExpectLaunch(Resolved(options, kTorch), 3, 4, "other:99", "torchrun");
  options.rank = 0;
  ExpectLaunch(Resolved(options, kTorch), 0, 4, "other:99", "torchrun");
  options.world_size = 2;
  ExpectLaunch(Resolved(options, kTorch), 0, 2, "other:99", "flags");
}

TEST(Launch, LeavesTorchrunsAgentItsPort) {
  Variables variables = kTorch;
  variables["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  EXPECT_EQ(Resolved({}, variables).leader_port, 29501);
}

TEST(Launch, MpiOnOneMachineNeedsNoLeader) {
  const Variables one = {{"OMPI_COMM_WORLD_RANK", "1"},
                         {"OMPI_COMM_WORLD_SIZE", "2"},
                         {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
  ExpectLaunch(Resolved({}, one), 1, 2, "127.0.0.1:7010", "Open MPI");
  Variables many = one;
  many["OMPI_COMM_WORLD_LOCAL_SIZE"] = "1";
  EXPECT_THAT(Refused({}, many), HasSubstr("--leader: found nothing, and Open MPI does not say"));
}

TEST(Launch, NamesWhatIsMissingOrWrong) {
  EXPECT_THAT(Refused({}, {}), HasSubstr("--world-size: found nothing"));
  LaunchOptions options;
  options.world_size = 2;
  EXPECT_THAT(Refused(options, {}), HasSubstr("--rank: found nothing"));
  options.rank = 1;
  EXPECT_THAT(Refused(options, {}), HasSubstr("--leader: found nothing"));
  options.leader = "host";
  EXPECT_THAT(Refused(options, {}), HasSubstr("--leader: found \"host\", expected HOST:PORT"));
  options.leader = "host:0";
  EXPECT_THAT(Refused(options, {}), HasSubstr("port of 1 to 65535"));
  options.leader = "host:1";
  options.rank = 2;
  EXPECT_THAT(Refused(options, {}), HasSubstr("--rank: found 2, expected 0 to 1"));
  Variables variables = kTorch;
  variables["RANK"] = "x";
  EXPECT_THAT(Refused({}, variables), HasSubstr("RANK: found \"x\", expected 0 to 255"));
}

TEST(Launch, FindsTheFirstHostOfSlurmsLists) {
  EXPECT_EQ(FirstSlurmHost("one"), "one");
  EXPECT_EQ(FirstSlurmHost("one,two"), "one");
  EXPECT_EQ(FirstSlurmHost("gpu[003-010,12],login"), "gpu003");
  EXPECT_EQ(FirstSlurmHost("gpu[7]"), "gpu7");
  EXPECT_EQ(FirstSlurmHost("rack[1-2]-ib,x"), "rack1-ib");
  EXPECT_EQ(FirstSlurmHost("broken[1"), "");
}

}  // namespace
}  // namespace ballast
