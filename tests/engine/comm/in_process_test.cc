#include "engine/comm/in_process.h"

#include <functional>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

void RunRanks(int ranks, std::chrono::milliseconds deadline,
              const std::function<void(Communicator&)>& body) {
  auto comms = MakeInProcessCommunicators(ranks, deadline);
  std::vector<std::thread> threads;
  for (auto& comm : comms) threads.emplace_back([&] { body(*comm); });
  for (std::thread& thread : threads) thread.join();
}

TEST(InProcess, GathersEveryRanksNumbersByRank) {
  RunRanks(3, std::chrono::minutes(1), [](Communicator& comm) {
    for (int round = 0; round < 200; ++round) {
      std::vector<int32_t> mine = {comm.rank(), round};
      std::vector<int32_t> all(6);
      ASSERT_TRUE(comm.AllGather(mine, all).ok());
      mine = {-1, -1};  // the caller may reuse it at once
      ASSERT_THAT(all, ElementsAre(0, round, 1, round, 2, round));
    }
  });
}

TEST(InProcess, ExchangesRowsInTheSendersOrder) {
  RunRanks(3, std::chrono::minutes(1), [](Communicator& comm) {
    // Rank r gives its row 1 to rank 0, rows 2 and 0 to rank 1, nothing to rank 2.
    std::vector<float> values;
    for (int row = 0; row < 3; ++row) {
      for (int col = 0; col < 2; ++col)
        values.push_back(static_cast<float>(100 * comm.rank() + 10 * row + col));
    }
    const MatView matrix{values.data(), DType::kF32, 3, 2, 2};
    const RowLists give{{1, 2, 0}, {0, 1, 3, 3}};
    const int from_each = comm.rank() == 0 ? 1 : comm.rank() == 1 ? 2 : 0;
    const std::vector<int32_t> counts(3, from_each);
    std::vector<const void*> received;
    ASSERT_TRUE(comm.ExchangeRows(matrix, give, counts, received).ok());
    std::vector<float> first;
    for (const void* row : received) first.push_back(*static_cast<const float*>(row));
    if (comm.rank() == 0) {
      EXPECT_THAT(first, ElementsAre(10, 110, 210));
    }
    if (comm.rank() == 1) {
      EXPECT_THAT(first, ElementsAre(20, 0, 120, 100, 220, 200));
    }
    if (comm.rank() == 2) {
      EXPECT_TRUE(first.empty());
    }
    std::vector<int32_t> all(3);
    ASSERT_TRUE(comm.AllGather(std::vector<int32_t>{0}, all).ok());  // all have read
  });
}

TEST(InProcess, AMissingRankFailsTheCallAndEveryLaterOne) {
  auto comms = MakeInProcessCommunicators(2, std::chrono::milliseconds(20));
  std::vector<int32_t> all(2);
  const absl::Status late = comms[0]->AllGather(std::vector<int32_t>{1}, all);
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(late.message(), HasSubstr("20 ms"));
  EXPECT_FALSE(comms[1]->AllGather(std::vector<int32_t>{1}, all).ok());
}

TEST(InProcess, FailEndsACallThatWaitsAndEveryLaterOne) {
  auto comms = MakeInProcessCommunicators(2, std::chrono::minutes(10));
  const absl::Status why = absl::InternalError("GPU 1: it is gone");
  std::thread failing([&] { comms[1]->Fail(why); });
  std::vector<int32_t> all(2);
  EXPECT_EQ(comms[0]->AllGather(std::vector<int32_t>{1}, all), why);
  failing.join();
  EXPECT_EQ(comms[1]->AllGather(std::vector<int32_t>{1}, all), why);
}

TEST(InProcess, OneRankTalksToItself) {
  auto comms = MakeInProcessCommunicators(1, std::chrono::minutes(1));
  std::vector<int32_t> all(1);
  ASSERT_TRUE(comms[0]->AllGather(std::vector<int32_t>{5}, all).ok());
  EXPECT_THAT(all, ElementsAre(5));
}

}  // namespace
}  // namespace ballast
