// Ranks as GPUs: emulated ones, each with a thread.
#include "engine/comm/nccl.h"

#include <barrier>
#include <random>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/emulator/communicators.h"
#include "kernels/cuda/emulator/machine.h"
#include "tests/engine/comm/nccl_ranks.h"

namespace ballast {
namespace {

using std::chrono::milliseconds;
using test::Draw;
using test::ExchangeDrawn;
using test::GiveToOthers;
using test::GpuBytes;
using test::Gpus;
using test::RunMeeting;
using test::RunRanks;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr milliseconds kLong = std::chrono::minutes(1);
constexpr milliseconds kShort(200);

void NewMachine(uint64_t seed, size_t bytes_per_device = size_t{64} << 20) {
  emulator::MachineOptions options;
  options.devices = 4;
  options.seed = seed;
  options.bytes_per_device = bytes_per_device;
  emulator::Machine::Replace(options);
}

class Nccl : public testing::Test {
 protected:
  void SetUp() override { NewMachine(1); }
  void TearDown() override {
    EXPECT_EQ(emulator::Communicators::Get().Count(), 0u) << "not destroyed";
  }
};

TEST_F(Nccl, GathersEveryRanksNumbersByRank) {
  for (int ranks = 2; ranks <= 4; ++ranks) {
    NewMachine(ranks);
    RunRanks(ranks, kLong, [ranks](NcclCommunicator& comm) {
      std::mt19937 random(7);  // the same at every rank
      for (uint64_t round = 0; round < 30; ++round) {
        if (round % 7 == 0) comm.BeginStep({0, round, 1});
        const size_t numbers = round % 5 == 0 ? 0 : random() % 3000;
        std::vector<int32_t> mine(numbers, static_cast<int32_t>(round * 10) + comm.rank());
        std::vector<int32_t> all(numbers * static_cast<size_t>(ranks));
        ASSERT_EQ(comm.AllGather(mine, all), absl::OkStatus());
        for (size_t i = 0; i < all.size(); ++i) {
          ASSERT_EQ(all[i], static_cast<int32_t>(round * 10 + i / numbers));
        }
      }
    });
  }
}

TEST_F(Nccl, ARankAloneTalksToNobody) {
  RunRanks(1, kLong, [](NcclCommunicator& comm) {
    std::vector<int32_t> all(2);
    ASSERT_EQ(comm.AllGather(std::vector<int32_t>{4, 5}, all), absl::OkStatus());
    EXPECT_THAT(all, ElementsAre(4, 5));
    const GpuBytes row(0, 4);
    std::vector<const void*> received;
    ASSERT_EQ(comm.ExchangeRows({row.data(), DType::kF32, 1, 1, 1}, {{0}, {0, 1}},
                                std::vector<int32_t>{1}, received),
              absl::OkStatus());
    EXPECT_THAT(received, ElementsAre(row.data()));
  });
}

TEST_F(Nccl, ExchangesAnyNumberOfRowsInTheSendersOrder) {
  for (int ranks = 2; ranks <= 4; ++ranks) {
    NewMachine(ranks);
    RunRanks(ranks, kLong, [ranks](NcclCommunicator& comm) {
      std::vector<size_t> as = {0, 1, 2, 3};
      as.resize(static_cast<size_t>(ranks));
      for (uint32_t round = 0; round < 10; ++round) ExchangeDrawn(comm, Draw(ranks, round), as);
    });
  }
}

TEST_F(Nccl, ReceivedRowsStayThroughTheNextExchange) {
  RunRanks(2, kLong, [](NcclCommunicator& comm) {
    const auto theirs = static_cast<uint8_t>(1 - comm.rank());
    std::vector<const void*> before;
    for (uint8_t round = 0; round < 9; ++round) {
      const auto sent = static_cast<uint8_t>(comm.rank() + 10 * round);
      const GpuBytes row(comm.rank(), std::vector<uint8_t>(4, sent));
      std::vector<const void*> received;
      ASSERT_EQ(GiveToOthers(comm, row, received), absl::OkStatus());
      EXPECT_THAT(row.Read(received.at(0), 4), Each(theirs + 10 * round));
      if (round > 0) {
        EXPECT_THAT(row.Read(before.at(0), 4), Each(theirs + 10 * (round - 1)));
      }
      before = received;
    }
  });
}

TEST_F(Nccl, ARankThatNeverComesToMeetIsTimedOut) {
  RunMeeting(3, [](NcclMeeting meeting) {
    if (meeting.rank == 1) return;
    meeting.limit = milliseconds(300);
    const auto comm = MakeNcclCommunicator(meeting, Gpus(), kLong);
    EXPECT_EQ(comm.status().code(), absl::StatusCode::kDeadlineExceeded) << comm.status();
    EXPECT_EQ(comm.status().message(),
              "rank " + std::to_string(meeting.rank) +
                  " of 3: NCCL did not join all ranks for rows within 0.3 s");
  });
}

TEST_F(Nccl, ALeaderThatNeverComesIsTimedOut) {
  RunMeeting(2, [](NcclMeeting meeting) {
    if (meeting.rank == 0) return;
    meeting.limit = kShort;
    const auto comm = MakeNcclCommunicator(meeting, Gpus(), kLong);
    EXPECT_EQ(comm.status().code(), absl::StatusCode::kDeadlineExceeded) << comm.status();
    EXPECT_THAT(std::string(comm.status().message()), HasSubstr("epoch-1/nccl-rows"));
  });
}

TEST_F(Nccl, TwoRanksOnOneGpuAreRefused) {
  RunMeeting(2, [](NcclMeeting meeting) {
    meeting.unit = 1;
    const auto comm = MakeNcclCommunicator(meeting, Gpus(), kLong);
    EXPECT_EQ(comm.status().code(), absl::StatusCode::kInvalidArgument) << comm.status();
    EXPECT_THAT(std::string(comm.status().message()), HasSubstr("use device 1 both"));
  });
}

TEST_F(Nccl, ARankThatDoesNotComeEndsTheCallInTimeAndForGood) {
  RunRanks(3, kShort, [](NcclCommunicator& comm) {
    const GpuBytes row(comm.rank(), 4);
    std::vector<const void*> received;
    if (comm.rank() == 1) {
      comm.Fail(absl::CancelledError("dies"));
      return;
    }
    const absl::Status status = GiveToOthers(comm, row, received);
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
    EXPECT_EQ(status.message(),
              "rank " + std::to_string(comm.rank()) +
                  " of 3: not all ranks came to an exchange of rows (rows) within 0.2 s");
    std::vector<int32_t> all(3);
    EXPECT_EQ(comm.AllGather(std::vector<int32_t>{1}, all), status);
    EXPECT_EQ(GiveToOthers(comm, row, received), status);
  });
}

void ExpectRefused(const StepStamp& one, const StepStamp& other, const std::string& at_one,
                   const std::string& at_other) {
  std::barrier together(2);  // nobody leaves before both have read
  RunRanks(2, kLong, [&](NcclCommunicator& comm) {
    comm.BeginStep(comm.rank() == 0 ? one : other);
    std::vector<int32_t> all(2);
    const absl::Status status = comm.AllGather(std::vector<int32_t>{1}, all);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(comm.rank() == 0 ? at_one : at_other));
    EXPECT_EQ(comm.AllGather(std::vector<int32_t>{1}, all), status) << "it is dead from then on";
    together.arrive_and_wait();
  });
}

TEST_F(Nccl, RefusesAnotherStampNamingBoth) {
  ExpectRefused({1, 7, 1}, {2, 7, 1}, "rank 1 is at epoch 2, rank 0 at epoch 1",
                "rank 0 is at epoch 1, rank 1 at epoch 2");
  ExpectRefused({1, 7, 1}, {1, 8, 1}, "rank 1 is at step 8, rank 0 at step 7",
                "rank 0 is at step 7, rank 1 at step 8");
  ExpectRefused({1, 7, 3}, {1, 7, 4}, "rank 1 is at placement version 4, rank 0 at placement",
                "rank 0 is at placement version 3, rank 1 at placement");
}

TEST_F(Nccl, RefusesAnotherNumberOfNumbers) {
  std::barrier together(2);
  RunRanks(2, kLong, [&](NcclCommunicator& comm) {
    const std::vector<int32_t> mine(static_cast<size_t>(3 + comm.rank()));
    std::vector<int32_t> all(2 * mine.size());
    const absl::Status status = comm.AllGather(mine, all);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("numbers 4"));
    together.arrive_and_wait();
  });
}

TEST_F(Nccl, FailEndsACallThatWaits) {
  RunRanks(2, kLong, [](NcclCommunicator& comm) {
    const absl::Status why = absl::UnavailableError("somebody said so");
    if (comm.rank() == 0) {
      std::thread other([&] { comm.Fail(why); });
      std::vector<int32_t> all(2);
      EXPECT_EQ(comm.AllGather(std::vector<int32_t>{1}, all), why);
      other.join();
    }
    comm.Fail(why);
  });
}

TEST_F(Nccl, WhoHasNoMemoryForRowsSaysSo) {
  NewMachine(1, size_t{1} << 20);
  std::barrier together(2);
  RunRanks(2, kShort, [&](NcclCommunicator& comm) {
    const GpuBytes rows(comm.rank(), 400'000);
    std::vector<const void*> received;
    const std::vector<int32_t> three(3, 0);
    const RowLists give = comm.rank() == 1 ? RowLists{three, {0, 3, 3}} : RowLists{{}, {0, 0, 0}};
    const std::vector<int32_t> counts = {0, comm.rank() == 0 ? 3 : 0};
    const absl::Status status =
        comm.ExchangeRows({rows.data(), DType::kF32, 1, 100'000, 100'000}, give, counts, received);
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("no memory for 1200000 bytes"));
    together.arrive_and_wait();
  });
}

TEST_F(Nccl, RanksThatAreLeftShrinkAndGoOn) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    NewMachine(seed);
    RunRanks(4, kShort, [seed](NcclCommunicator& comm) {
      ExchangeDrawn(comm, Draw(4, 1), {0, 1, 2, 3});
      const int lost = static_cast<int>(seed % 4);
      const GpuBytes row(comm.rank(), 4);
      std::vector<const void*> received;
      if (comm.rank() == lost) {
        comm.Fail(absl::CancelledError("dies"));
        return;
      }
      EXPECT_FALSE(GiveToOthers(comm, row, received).ok());
      auto smaller = comm.Shrink(std::vector<int>{lost}, kLong);
      ASSERT_EQ(smaller.status(), absl::OkStatus());
      EXPECT_EQ((*smaller)->size(), 3);
      EXPECT_EQ((*smaller)->rank(), comm.rank() - (comm.rank() > lost ? 1 : 0));
      std::vector<size_t> left;
      for (int rank = 0; rank < 4; ++rank) {
        if (rank != lost) left.push_back(static_cast<size_t>(rank));
      }
      for (uint32_t round = 0; round < 4; ++round) {
        ExchangeDrawn(**smaller, Draw(4, round), left);
        std::vector<int32_t> all(3);
        ASSERT_EQ((*smaller)->AllGather(std::vector<int32_t>{comm.rank()}, all), absl::OkStatus());
        EXPECT_THAT(all, ElementsAre(left[0], left[1], left[2]));
      }
      std::vector<int32_t> all(4);
      EXPECT_EQ(comm.AllGather(std::vector<int32_t>{1}, all).code(),
                absl::StatusCode::kDeadlineExceeded)
          << "the old one stays dead, for the first reason";
    });
  }
}

TEST_F(Nccl, WhoDoesNotComeToShrinkIsTimedOut) {
  RunRanks(3, kLong, [](NcclCommunicator& comm) {
    if (comm.rank() != 0) {
      comm.Fail(absl::CancelledError("dies"));
      return;
    }
    const auto smaller = comm.Shrink(std::vector<int>{2}, kShort);
    EXPECT_EQ(smaller.status().code(), absl::StatusCode::kDeadlineExceeded) << smaller.status();
    EXPECT_EQ(smaller.status().message(),
              "rank 0 of 3: not all of the 2 ranks that are left came to shrink rows within 0.2 s");
  });
}

TEST_F(Nccl, WeightsMoveWhileRowsDo) {
  RunMeeting(3, [](NcclMeeting meeting) {
    auto comm = MakeNcclCommunicator(meeting, Gpus(), kLong);
    ASSERT_EQ(comm.status(), absl::OkStatus());
    meeting.purpose = "weights";
    auto weights = MakeNcclWeights(meeting, Gpus(), kLong);
    ASSERT_EQ(weights.status(), absl::OkStatus());
    for (uint32_t round = 0; round < 6; ++round) {
      // Every rank lends the next one two blocks; in some rounds nobody lends.
      const int next = (meeting.rank + 1) % 3;
      const int last = (meeting.rank + 2) % 3;
      const auto value = static_cast<uint8_t>(10 * round);
      const GpuBytes a(meeting.rank, std::vector<uint8_t>(1000, value + meeting.rank));
      const GpuBytes b(meeting.rank, std::vector<uint8_t>(7, value + 100 + meeting.rank));
      const GpuBytes c(meeting.rank, 1000);
      const GpuBytes d(meeting.rank, 7);
      std::vector<WeightBlock> sent = {{next, a.data(), 1000}, {next, b.data(), 7}};
      std::vector<WeightBlock> received = {{last, c.data(), 1000}, {last, d.data(), 7}};
      if (round == 3) sent = received = {};
      ASSERT_EQ((*weights)->Start(sent, received), absl::OkStatus());
      ExchangeDrawn(**comm, Draw(3, round), {0, 1, 2});
      ASSERT_EQ((*weights)->AwaitReceived(), absl::OkStatus());
      if (round != 3) {
        EXPECT_THAT(c.Read(), Each(value + last));
        EXPECT_THAT(d.Read(), Each(value + 100 + last));
      }
      ASSERT_EQ((*weights)->AwaitSent(), absl::OkStatus());
    }
  });
}

TEST_F(Nccl, WeightsThatNobodySendsAreTimedOut) {
  RunMeeting(2, [](NcclMeeting meeting) {
    auto weights = MakeNcclWeights(meeting, Gpus(), kShort);
    ASSERT_EQ(weights.status(), absl::OkStatus());
    if (meeting.rank == 1) {
      (*weights)->Fail(absl::CancelledError("dies"));
      return;
    }
    const GpuBytes memory(0, 64);
    ASSERT_EQ((*weights)->Start({}, std::vector<WeightBlock>{{1, memory.data(), 64}}),
              absl::OkStatus());
    const absl::Status status = (*weights)->AwaitReceived();
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
    EXPECT_EQ((*weights)->AwaitSent(), status);
    EXPECT_EQ((*weights)->Start({}, {}), status);
  });
}

// Both use one GPU: neither can be destroyed while the other's work waits on it.
TEST_F(Nccl, RowsAndWeightsThatAreFailedTogetherCanBeDestroyedInAnyOrder) {
  RunMeeting(2, [](NcclMeeting meeting) {
    auto comm = MakeNcclCommunicator(meeting, Gpus(), kLong);
    ASSERT_EQ(comm.status(), absl::OkStatus());
    meeting.purpose = "weights";
    auto weights = MakeNcclWeights(meeting, Gpus(), kLong);
    ASSERT_EQ(weights.status(), absl::OkStatus());
    const GpuBytes memory(meeting.rank, 64);
    if (meeting.rank == 0) {
      ASSERT_EQ((*weights)->Start({}, std::vector<WeightBlock>{{1, memory.data(), 64}}),
                absl::OkStatus());
    }
    const absl::Status why = absl::UnavailableError("rank 1 is lost");
    (*comm)->Fail(why);
    (*weights)->Fail(why);
    comm->reset();
    weights->reset();
  });
}

}  // namespace
}  // namespace ballast
