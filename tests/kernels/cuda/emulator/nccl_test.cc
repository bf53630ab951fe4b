// NCCL over emulated GPUs: what is right arrives, what is wrong is found.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nccl.h>

#include <algorithm>
#include <barrier>
#include <functional>
#include <numeric>
#include <thread>
#include <vector>

#include "kernels/cuda/emulator/communicators.h"
#include "kernels/cuda/emulator/machine.h"

namespace ballast {
namespace {

using emulator::Communicators;
using emulator::Machine;
using emulator::MachineOptions;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kCount = 64;
constexpr size_t kBytes = kCount * sizeof(int32_t);

ncclConfig_t NonBlocking() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

// Polls to the end of what is in progress.
ncclResult_t Await(ncclComm_t comm) {
  ncclResult_t result = ncclInProgress;
  while (result == ncclInProgress) {
    if (ncclCommGetAsyncError(comm, &result) != ncclSuccess) return ncclInternalError;
    std::this_thread::yield();
  }
  return result;
}

ncclResult_t Poll(ncclComm_t comm) {
  ncclResult_t result = ncclSuccess;
  EXPECT_EQ(ncclCommGetAsyncError(comm, &result), ncclSuccess);
  return result;
}

// A rank in its thread.
struct Rank {
  int rank = 0;
  int size = 0;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;

  int32_t* OnDevice(const std::vector<int32_t>& values) const {
    int32_t* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, values.size() * sizeof(int32_t)), cudaSuccess);
    EXPECT_EQ(cudaMemcpyAsync(memory, values.data(), values.size() * sizeof(int32_t),
                              cudaMemcpyHostToDevice, stream),
              cudaSuccess);
    return memory;
  }
  std::vector<int32_t> Read(const int32_t* memory, size_t count) const {
    std::vector<int32_t> values(count);
    EXPECT_EQ(cudaMemcpyAsync(values.data(), memory, count * sizeof(int32_t),
                              cudaMemcpyDeviceToHost, stream),
              cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    return values;
  }
};

class NcclTest : public testing::Test {
 protected:
  static void Begin(uint64_t seed) {
    MachineOptions options;
    options.devices = 4;
    options.seed = seed;
    options.bytes_per_device = 1 << 20;
    Machine::Replace(options);
    EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
  }
  void SetUp() override { Begin(1); }
  void TearDown() override { EXPECT_EQ(Communicators::Get().Count(), 0u) << "not destroyed"; }

  // Runs `body` as each rank, which may give up its communicator: then it sets it to null.
  static void RunRanks(int ranks, const std::function<void(Rank&)>& body) {
    ncclUniqueId id;
    ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
    std::barrier together(ranks);
    std::vector<std::thread> threads;
    for (int i = 0; i < ranks; ++i) {
      threads.emplace_back([&, i] {
        Rank rank{i, ranks};
        EXPECT_EQ(cudaSetDevice(i), cudaSuccess);
        EXPECT_EQ(cudaStreamCreateWithFlags(&rank.stream, cudaStreamNonBlocking), cudaSuccess);
        ncclConfig_t config = NonBlocking();
        EXPECT_EQ(ncclCommInitRankConfig(&rank.comm, ranks, id, i, &config), ncclInProgress);
        EXPECT_EQ(Await(rank.comm), ncclSuccess);
        body(rank);
        together.arrive_and_wait();
        if (rank.comm != nullptr) {
          EXPECT_EQ(ncclCommAbort(rank.comm), ncclSuccess);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
};

// What rank `from` sends to rank `to`.
std::vector<int32_t> Sent(int from, int to) {
  std::vector<int32_t> values(1 + from * 3 + to);
  std::iota(values.begin(), values.end(), from * 1000 + to * 100);
  return values;
}

TEST_F(NcclTest, AGroupSendsToAllAndReceivesFromAll) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    Begin(seed);
    RunRanks(4, [](Rank& rank) {
      std::vector<int32_t*> received;
      ASSERT_EQ(ncclGroupStart(), ncclSuccess);
      for (int peer = 0; peer < rank.size; ++peer) {
        if (peer == rank.rank) continue;
        const std::vector<int32_t> sent = Sent(rank.rank, peer);
        const size_t count = Sent(peer, rank.rank).size();
        received.push_back(rank.OnDevice(std::vector<int32_t>(count, -1)));
        ASSERT_EQ(
            ncclSend(rank.OnDevice(sent), sent.size(), ncclInt32, peer, rank.comm, rank.stream),
            ncclSuccess);
        ASSERT_EQ(ncclRecv(received.back(), count, ncclInt32, peer, rank.comm, rank.stream),
                  ncclSuccess);
      }
      ASSERT_EQ(ncclGroupEnd(), ncclInProgress);
      ASSERT_EQ(Await(rank.comm), ncclSuccess);
      for (int peer = 0, at = 0; peer < rank.size; ++peer) {
        if (peer == rank.rank) continue;
        const std::vector<int32_t> expected = Sent(peer, rank.rank);
        EXPECT_EQ(rank.Read(received[at++], expected.size()), expected);
      }
    });
  }
}

TEST_F(NcclTest, AnAllGatherOrdersByRankAlsoInPlace) {
  RunRanks(3, [](Rank& rank) {
    int32_t* const mine = rank.OnDevice({rank.rank, 10 + rank.rank});
    int32_t* const all = rank.OnDevice(std::vector<int32_t>(6, -1));
    ASSERT_EQ(ncclAllGather(mine, all, 2, ncclInt32, rank.comm, rank.stream), ncclInProgress);
    ASSERT_EQ(Await(rank.comm), ncclSuccess);
    EXPECT_THAT(rank.Read(all, 6), ElementsAre(0, 10, 1, 11, 2, 12));
    ASSERT_EQ(cudaMemsetAsync(all + 2 * rank.rank, 1, 8, rank.stream), cudaSuccess);
    ASSERT_EQ(ncclAllGather(all + 2 * rank.rank, all, 2, ncclInt32, rank.comm, rank.stream),
              ncclInProgress);
    ASSERT_EQ(Await(rank.comm), ncclSuccess);
    EXPECT_THAT(rank.Read(all, 6), Each(0x01010101));
  });
}

TEST_F(NcclTest, NothingReachesTheStreamBeforeItWasPolled) {
  RunRanks(2, [](Rank& rank) {
    int32_t* const memory = rank.OnDevice({rank.rank});
    ASSERT_EQ(rank.rank == 0 ? ncclSend(memory, 1, ncclInt32, 1, rank.comm, rank.stream)
                             : ncclRecv(memory, 1, ncclInt32, 0, rank.comm, rank.stream),
              ncclInProgress);
    EXPECT_THAT(rank.Read(memory, 1), ElementsAre(rank.rank)) << "too early";
    ASSERT_EQ(Await(rank.comm), ncclSuccess);
    EXPECT_THAT(rank.Read(memory, 1), ElementsAre(0));
  });
}

// Two ranks give their own operations; both learn what is wrong.
void ExpectFault(const std::function<void(Rank&, int32_t*)>& give, const std::string& fault,
                 const std::function<void(int, const std::function<void(Rank&)>&)>& run) {
  run(2, [&](Rank& rank) {
    int32_t* const memory = rank.OnDevice(std::vector<int32_t>(kCount, rank.rank));
    give(rank, memory);
    ncclResult_t result = ncclSuccess;
    while ((result = Poll(rank.comm)) == ncclSuccess || result == ncclInProgress) {
      cudaStreamQuery(rank.stream);
    }
    EXPECT_EQ(result, ncclInvalidUsage);
    EXPECT_THAT(ncclGetLastError(rank.comm), HasSubstr(fault));
    EXPECT_EQ(cudaStreamSynchronize(rank.stream), cudaErrorLaunchFailure);
    EXPECT_THAT(emulator::FaultOfDevice(), HasSubstr(fault));
  });
}

TEST_F(NcclTest, FindsAnotherCountAtEachEnd) {
  ExpectFault(
      [](Rank& rank, int32_t* memory) {
        const int peer = 1 - rank.rank;
        if (rank.rank == 0) ncclSend(memory, 3, ncclInt32, peer, rank.comm, rank.stream);
        if (rank.rank == 1) ncclRecv(memory, 4, ncclInt32, peer, rank.comm, rank.stream);
      },
      "s 3 of type 2", RunRanks);
}

TEST_F(NcclTest, FindsAnotherTypeAtEachEnd) {
  ExpectFault(
      [](Rank& rank, int32_t* memory) {
        const int peer = 1 - rank.rank;
        if (rank.rank == 0) ncclSend(memory, 4, ncclInt32, peer, rank.comm, rank.stream);
        if (rank.rank == 1) ncclRecv(memory, 4, ncclFloat32, peer, rank.comm, rank.stream);
      },
      "4 of type 7", RunRanks);
}

TEST_F(NcclTest, FindsAnAllGatherOfAnotherCount) {
  ExpectFault(
      [](Rank& rank, int32_t* memory) {
        ncclAllGather(memory, memory + 8, 2 + rank.rank, ncclInt32, rank.comm, rank.stream);
      },
      "3 of type 2", RunRanks);
}

TEST_F(NcclTest, FindsOperationsInAnotherOrder) {
  ExpectFault(
      [](Rank& rank, int32_t* memory) {
        if (rank.rank == 0) ncclSend(memory, 4, ncclInt32, 1, rank.comm, rank.stream);
        if (rank.rank == 1) {
          ncclAllGather(memory, memory + 8, 4, ncclInt32, rank.comm, rank.stream);
        }
      },
      "their operations come in other orders", RunRanks);
}

TEST_F(NcclTest, FindsSendsThatAreNotGroupedWithTheirReceives) {
  ExpectFault(
      [](Rank& rank, int32_t* memory) {
        ncclSend(memory, 4, ncclInt32, 1 - rank.rank, rank.comm, rank.stream);
      },
      "ranks wait for each other: ", RunRanks);
}

TEST_F(NcclTest, WrongArgumentsAreErrors) {
  RunRanks(2, [](Rank& rank) {
    const int peer = 1 - rank.rank;
    int32_t* const memory = rank.OnDevice(std::vector<int32_t>(kCount));
    std::vector<int32_t> host(kCount);
    const auto send = [&](const void* from, size_t count, ncclDataType_t type, int to,
                          cudaStream_t stream) {
      return ncclSend(from, count, type, to, rank.comm, stream);
    };
    EXPECT_EQ(send(host.data(), 1, ncclInt32, peer, rank.stream), ncclInvalidArgument);
    EXPECT_EQ(send(memory + 1, kCount, ncclInt32, peer, rank.stream), ncclInvalidArgument);
    EXPECT_EQ(send(memory, 0, ncclInt32, peer, rank.stream), ncclInvalidArgument);
    EXPECT_EQ(send(memory, 1, ncclNumTypes, peer, rank.stream), ncclInvalidArgument);
    EXPECT_EQ(send(memory, 1, ncclInt32, 2, rank.stream), ncclInvalidArgument);
    EXPECT_EQ(send(memory, 1, ncclInt32, peer, nullptr), ncclInvalidArgument);
    EXPECT_EQ(ncclSend(memory, 1, ncclInt32, peer, nullptr, rank.stream), ncclInvalidArgument);
    // The stream and the memory of another device.
    ASSERT_EQ(cudaSetDevice(2 + rank.rank), cudaSuccess);
    cudaStream_t other = nullptr;
    ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(send(memory, 1, ncclInt32, peer, other), ncclInvalidArgument);
    void* elsewhere = nullptr;
    ASSERT_EQ(cudaMalloc(&elsewhere, kBytes), cudaSuccess);
    EXPECT_EQ(send(elsewhere, 1, ncclInt32, peer, rank.stream), ncclInvalidArgument);
    // A group that cannot be is dropped as a whole.
    EXPECT_EQ(ncclGroupStart(), ncclSuccess);
    EXPECT_EQ(send(memory, 1, ncclInt32, peer, rank.stream), ncclSuccess);
    EXPECT_EQ(ncclRecv(memory, 1, ncclInt32, 9, rank.comm, rank.stream), ncclInvalidArgument);
    EXPECT_EQ(ncclGroupEnd(), ncclInvalidArgument);
    EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
    EXPECT_EQ(ncclGroupStart(), ncclSuccess);
    EXPECT_EQ(send(memory, 8, ncclInt32, peer, rank.stream), ncclSuccess);
    EXPECT_EQ(ncclRecv(memory + 7, 8, ncclInt32, peer, rank.comm, rank.stream), ncclSuccess);
    EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage) << "overlap";
    EXPECT_EQ(ncclCommDestroy(rank.comm), ncclInvalidUsage) << "not finalized";
    EXPECT_EQ(Poll(rank.comm), ncclSuccess) << "nothing was given";
  });
}

TEST_F(NcclTest, AGroupIsOfOneCommunicatorOnItsOneStream) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  RunRanks(2, [id](Rank& rank) {
    const int peer = 1 - rank.rank;
    ncclConfig_t config = NonBlocking();
    ncclComm_t second = nullptr;
    ASSERT_EQ(ncclCommInitRankConfig(&second, 2, id, rank.rank, &config), ncclInProgress);
    ASSERT_EQ(Await(second), ncclSuccess);
    int32_t* const memory = rank.OnDevice(std::vector<int32_t>(kCount));
    EXPECT_EQ(ncclGroupStart(), ncclSuccess);
    EXPECT_EQ(ncclSend(memory, 1, ncclInt32, peer, rank.comm, rank.stream), ncclSuccess);
    EXPECT_EQ(ncclRecv(memory + 1, 1, ncclInt32, peer, second, rank.stream), ncclInvalidUsage);
    EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
    ASSERT_EQ(ncclAllGather(memory, memory + 8, 1, ncclInt32, rank.comm, rank.stream),
              ncclInProgress);
    ASSERT_EQ(Await(rank.comm), ncclSuccess);
    cudaStream_t other = nullptr;
    ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(ncclSend(memory, 1, ncclInt32, peer, rank.comm, other), ncclInvalidUsage);
    EXPECT_EQ(cudaStreamSynchronize(rank.stream), cudaSuccess);
    EXPECT_EQ(ncclCommAbort(second), ncclSuccess);
  });
}

TEST_F(NcclTest, InitWantsItsConfigAndAnIdThatWasGivenOut) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  ncclComm_t comm = nullptr;
  ncclConfig_t config = NonBlocking();
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 2, id, 2, &config), ncclInvalidArgument);
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 0, id, 0, &config), ncclInvalidArgument);
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 2, id, 0, nullptr), ncclInvalidUsage);
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 2, ncclUniqueId(), 0, &config), ncclInvalidArgument);
  config.blocking = 1;
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 2, id, 0, &config), ncclInvalidUsage);
  config.magic = 0;
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 2, id, 0, &config), ncclInvalidArgument);
}

// Two ranks come that do not fit; each says its rank, of how many, and its device.
struct Comer {
  int rank;
  int size;
  int device;
};
void ExpectRefused(Comer a, Comer b, const std::string& why) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  ncclConfig_t config = NonBlocking();
  std::vector<ncclComm_t> comms;
  for (const Comer& comer : {a, b}) {
    ASSERT_EQ(cudaSetDevice(comer.device), cudaSuccess);
    ASSERT_EQ(ncclCommInitRankConfig(&comms.emplace_back(), comer.size, id, comer.rank, &config),
              ncclInProgress);
  }
  for (ncclComm_t comm : comms) {
    EXPECT_EQ(Await(comm), ncclInvalidUsage);
    EXPECT_THAT(ncclGetLastError(comm), HasSubstr(why));
    EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
  }
}

TEST_F(NcclTest, InitRefusesTwoRanksOnOneDevice) {
  ExpectRefused({0, 2, 1}, {1, 2, 1}, "rank 1 and rank 0 use device 1 both");
}

TEST_F(NcclTest, InitRefusesOneRankTwice) {
  ExpectRefused({0, 2, 0}, {0, 2, 1}, "rank 0 came twice");
}

TEST_F(NcclTest, InitRefusesAnotherNumberOfRanks) {
  ExpectRefused({0, 2, 0}, {1, 3, 1}, "rank 1 says there are 3 ranks, another one said 2");
}

TEST_F(NcclTest, WhoWaitsForARankThatNeverComesCanGiveUp) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  ncclConfig_t config = NonBlocking();
  ncclComm_t comm = nullptr;
  ASSERT_EQ(ncclCommInitRankConfig(&comm, 2, id, 0, &config), ncclInProgress);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(Poll(comm), ncclInProgress);
  EXPECT_EQ(ncclCommFinalize(comm), ncclInvalidArgument) << "in progress";
  EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
  ncclResult_t result = ncclSuccess;
  EXPECT_EQ(ncclCommGetAsyncError(comm, &result), ncclInvalidArgument) << "the handle is gone";
}

TEST_F(NcclTest, AnAbortByAnotherThreadEndsAWaitForAPeer) {
  RunRanks(2, [](Rank& rank) {
    if (rank.rank == 1) return;
    int32_t* const memory = rank.OnDevice({7});
    ASSERT_EQ(ncclRecv(memory, 1, ncclInt32, 1, rank.comm, rank.stream), ncclInProgress);
    ASSERT_EQ(Await(rank.comm), ncclSuccess);
    std::thread other([&] { EXPECT_EQ(ncclCommAbort(rank.comm), ncclSuccess); });
    EXPECT_EQ(cudaStreamSynchronize(rank.stream), cudaSuccess);
    other.join();
    rank.comm = nullptr;
    EXPECT_THAT(rank.Read(memory, 1), ElementsAre(-1)) << "poison";
  });
}

TEST_F(NcclTest, AnAbortWhileAnotherCommunicatorIsBusyIsRefused) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  RunRanks(2, [id](Rank& rank) {
    ncclConfig_t config = NonBlocking();
    ncclComm_t second = nullptr;
    ASSERT_EQ(ncclCommInitRankConfig(&second, 2, id, rank.rank, &config), ncclInProgress);
    ASSERT_EQ(Await(second), ncclSuccess);
    if (rank.rank == 0) {
      int32_t* const memory = rank.OnDevice({7});
      ASSERT_EQ(ncclSend(memory, 1, ncclInt32, 1, rank.comm, rank.stream), ncclInProgress);
      ASSERT_EQ(Await(rank.comm), ncclSuccess);
      EXPECT_EQ(ncclCommAbort(second), ncclInvalidUsage);
      EXPECT_EQ(ncclCommAbort(rank.comm), ncclSuccess);
      rank.comm = nullptr;
    }
    EXPECT_EQ(ncclCommAbort(second), ncclSuccess);
  });
}

TEST_F(NcclTest, FinalizeWaitsForAllAndThenDestroyIsAllowed) {
  std::barrier asked(2);
  RunRanks(2, [&](Rank& rank) {
    if (rank.rank == 0) {
      EXPECT_EQ(ncclCommFinalize(rank.comm), ncclInProgress);
      for (int i = 0; i < 100; ++i) EXPECT_EQ(Poll(rank.comm), ncclInProgress);
    }
    asked.arrive_and_wait();
    if (rank.rank == 1) {
      EXPECT_EQ(ncclCommFinalize(rank.comm), ncclInProgress);
    }
    EXPECT_EQ(Await(rank.comm), ncclSuccess);
    EXPECT_EQ(ncclCommDestroy(rank.comm), ncclSuccess);
    rank.comm = nullptr;
  });
}

TEST_F(NcclTest, RevokedRanksShrinkToThoseThatAreLeft) {
  RunRanks(4, [](Rank& rank) {
    if (rank.rank == 1) return;  // is lost
    int32_t* memory = rank.OnDevice(std::vector<int32_t>(kCount));
    ASSERT_EQ(ncclAllGather(memory, memory + 8, 1, ncclInt32, rank.comm, rank.stream),
              ncclInProgress);
    ASSERT_EQ(Await(rank.comm), ncclSuccess);
    ASSERT_EQ(ncclCommRevoke(rank.comm, NCCL_REVOKE_DEFAULT), ncclInProgress);
    ASSERT_EQ(Await(rank.comm), ncclSuccess);
    EXPECT_EQ(ncclSend(memory, 1, ncclInt32, 0, rank.comm, rank.stream), ncclInvalidUsage);
    std::vector<int> lost = {1};
    ncclConfig_t config = NonBlocking();
    ncclComm_t shrunk = nullptr;
    ASSERT_EQ(ncclCommShrink(rank.comm, lost.data(), 1, &shrunk, &config, NCCL_SHRINK_DEFAULT),
              ncclInProgress);
    ASSERT_EQ(Await(rank.comm), ncclSuccess) << "the parent says when";
    EXPECT_EQ(ncclCommAbort(rank.comm), ncclSuccess);
    rank.comm = shrunk;
    memory = rank.OnDevice({rank.rank, -1, -1, -1});
    ASSERT_EQ(ncclAllGather(memory, memory + 1, 1, ncclInt32, rank.comm, rank.stream),
              ncclInProgress);
    ASSERT_EQ(Await(rank.comm), ncclSuccess);
    EXPECT_THAT(rank.Read(memory + 1, 3), ElementsAre(0, 2, 3));
  });
}

TEST_F(NcclTest, ShrinkRefusesRanksThatDisagree) {
  RunRanks(3, [](Rank& rank) {
    if (rank.rank == 2) return;
    std::vector<int> lost = {rank.rank == 0 ? 2 : 0};
    ncclConfig_t config = NonBlocking();
    ncclComm_t shrunk = nullptr;
    ASSERT_EQ(ncclCommShrink(rank.comm, lost.data(), 1, &shrunk, &config, NCCL_SHRINK_ABORT),
              ncclInProgress);
    if (rank.rank == 0) {
      EXPECT_EQ(Await(rank.comm), ncclInvalidUsage);
      EXPECT_THAT(ncclGetLastError(rank.comm), HasSubstr("exclude others"));
    }
    lost = {rank.rank};
    EXPECT_NE(ncclCommShrink(rank.comm, lost.data(), 1, &shrunk, &config, NCCL_SHRINK_ABORT),
              ncclInProgress)
        << "excludes itself";
    EXPECT_EQ(shrunk, nullptr);
  });
}

}  // namespace
}  // namespace ballast
