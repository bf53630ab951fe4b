// Ranks as GPUs: real ones, where the machine has two. NCCL refuses two ranks on one GPU.
#include <algorithm>
#include <numeric>

#include "gmock/gmock.h"
#include "tests/engine/comm/nccl_ranks.h"
#include "tests/support/gpus.h"

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
using testing::ElementsAreArray;

constexpr milliseconds kLong = std::chrono::minutes(1);

class NcclGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string few = test::TooFewGpus(2); !few.empty()) GTEST_SKIP() << few;
    ranks_ = std::min(Gpus().units(), 4);
  }
  int ranks_ = 0;
};

TEST(NcclOneGpu, ARankAloneGathersItsOwn) {
  RunRanks(1, kLong, [](NcclCommunicator& comm) {
    for (int32_t round = 0; round < 20; ++round) {
      std::vector<int32_t> all(2);
      ASSERT_EQ(comm.AllGather(std::vector<int32_t>{round, -round}, all), absl::OkStatus());
      EXPECT_THAT(all, ElementsAreArray({round, -round}));
      ExchangeDrawn(comm, Draw(1, static_cast<uint32_t>(round)), {0});
    }
    comm.Fail(absl::CancelledError("enough"));
    std::vector<int32_t> all(1);
    EXPECT_EQ(comm.AllGather(std::vector<int32_t>{1}, all), absl::CancelledError("enough"));
  });
}

TEST_F(NcclGpu, ExchangesNumbersAndRowsToTheBit) {
  RunRanks(ranks_, kLong, [](NcclCommunicator& comm) {
    std::vector<size_t> as(static_cast<size_t>(comm.size()));
    std::iota(as.begin(), as.end(), size_t{0});
    for (uint32_t round = 0; round < 50; ++round) {
      std::vector<int32_t> all(as.size());
      ASSERT_EQ(comm.AllGather(std::vector<int32_t>{comm.rank()}, all), absl::OkStatus());
      EXPECT_THAT(all, ElementsAreArray(as));
      ExchangeDrawn(comm, Draw(comm.size(), round), as);
    }
  });
}

TEST_F(NcclGpu, ARankThatDoesNotComeEndsTheCallAndTheOthersShrink) {
  const int lost = ranks_ - 1;
  RunRanks(ranks_, std::chrono::seconds(5), [lost](NcclCommunicator& comm) {
    const GpuBytes row(comm.rank(), 4);
    std::vector<const void*> received;
    ASSERT_EQ(GiveToOthers(comm, row, received), absl::OkStatus());
    if (comm.rank() == lost) {
      comm.Fail(absl::CancelledError("dies"));
      return;
    }
    const absl::Status status = GiveToOthers(comm, row, received);
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(GiveToOthers(comm, row, received), status) << "it is dead from then on";
    auto smaller = comm.Shrink(std::vector<int>{lost}, kLong);
    ASSERT_EQ(smaller.status(), absl::OkStatus());
    std::vector<size_t> left(static_cast<size_t>(lost));
    std::iota(left.begin(), left.end(), size_t{0});
    for (uint32_t round = 0; round < 5; ++round) {
      ExchangeDrawn(**smaller, Draw(lost + 1, round), left);
    }
  });
}

TEST_F(NcclGpu, ARankThatNeverComesToMeetIsTimedOut) {
  RunMeeting(2, [](NcclMeeting meeting) {
    if (meeting.rank == 1) return;
    meeting.limit = std::chrono::seconds(3);
    const auto comm = MakeNcclCommunicator(meeting, Gpus(), kLong);
    EXPECT_EQ(comm.status().code(), absl::StatusCode::kDeadlineExceeded) << comm.status();
  });
}

TEST_F(NcclGpu, WeightsMoveWhileRowsDo) {
  RunMeeting(ranks_, [](NcclMeeting meeting) {
    auto comm = MakeNcclCommunicator(meeting, Gpus(), kLong);
    ASSERT_EQ(comm.status(), absl::OkStatus());
    meeting.purpose = "weights";
    auto weights = MakeNcclWeights(meeting, Gpus(), kLong);
    ASSERT_EQ(weights.status(), absl::OkStatus());
    const int next = (meeting.rank + 1) % meeting.size;
    const int last = (meeting.rank + meeting.size - 1) % meeting.size;
    constexpr size_t kBytes = size_t{32} << 20;
    const GpuBytes out(meeting.rank,
                       std::vector<uint8_t>(kBytes, static_cast<uint8_t>(meeting.rank)));
    const GpuBytes in(meeting.rank, kBytes);
    std::vector<size_t> as(static_cast<size_t>(meeting.size));
    std::iota(as.begin(), as.end(), size_t{0});
    ASSERT_EQ((*weights)->Start(std::vector<WeightBlock>{{next, out.data(), kBytes}},
                                std::vector<WeightBlock>{{last, in.data(), kBytes}}),
              absl::OkStatus());
    for (uint32_t round = 0; round < 10; ++round) {
      ExchangeDrawn(**comm, Draw(meeting.size, round), as);
    }
    ASSERT_EQ((*weights)->AwaitReceived(), absl::OkStatus());
    EXPECT_THAT(in.Read(), Each(last));
    ASSERT_EQ((*weights)->AwaitSent(), absl::OkStatus());
  });
}

}  // namespace
}  // namespace ballast
