#include "engine/comm/gloo.h"

#include <barrier>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/comm/gloo_ranks.h"

namespace ballast {
namespace {

using std::chrono::milliseconds;
using test::RunMeeting;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr milliseconds kLong = std::chrono::minutes(1);

void RunRanks(int ranks, milliseconds deadline,
              const std::function<void(GlooCommunicator&)>& body) {
  RunMeeting(ranks, [&](const Meeting& meeting) {
    auto mesh = GlooMesh::Connect(meeting, "rows");
    ASSERT_EQ(mesh.status(), absl::OkStatus());
    GlooCommunicator comm(*std::move(mesh), deadline);
    body(comm);
  });
}

TEST(Gloo, GathersEveryRanksNumbersByRank) {
  RunRanks(3, kLong, [](GlooCommunicator& comm) {
    for (int round = 0; round < 200; ++round) {
      if (round % 7 == 0) comm.BeginStep({0, static_cast<uint64_t>(round), 1});
      std::vector<int32_t> mine = {comm.rank(), round};
      std::vector<int32_t> all(6);
      ASSERT_EQ(comm.AllGather(mine, all), absl::OkStatus());
      mine = {-1, -1};  // the caller may reuse it at once
      ASSERT_THAT(all, ElementsAre(0, round, 1, round, 2, round));
    }
  });
}

TEST(Gloo, ARankAloneTalksToNobody) {
  RunRanks(1, kLong, [](GlooCommunicator& comm) {
    std::vector<int32_t> all(2);
    ASSERT_EQ(comm.AllGather(std::vector<int32_t>{4, 5}, all), absl::OkStatus());
    EXPECT_THAT(all, ElementsAre(4, 5));
    float value = 3;
    std::vector<const void*> received;
    ASSERT_EQ(comm.ExchangeRows({&value, DType::kF32, 1, 1, 1}, {{0}, {0, 1}},
                                std::vector<int32_t>{1}, received),
              absl::OkStatus());
    EXPECT_THAT(received, ElementsAre(&value));
  });
}

// Rows that each rank gives to each other one in a round: odd numbers, often none, some rounds
// many.
int RowsFrom(int from, int to, int round) {
  if ((from + to + round) % 3 == 0) return 0;
  return 1 + (from * 7 + to * 5 + round * 3) % 11 + (round == 20 ? 3000 : 0);
}

TEST(Gloo, ExchangesAnyNumberOfRowsInTheSendersOrder) {
  constexpr int kRanks = 4;
  constexpr int kCols = 37;
  constexpr int kStride = 40;
  RunRanks(kRanks, kLong, [](GlooCommunicator& comm) {
    // Row r of rank s is (s * 10000 + r, column).
    const int rows = 4000;
    std::vector<float> values(int64_t{rows} * kStride);
    for (int row = 0; row < rows; ++row) {
      for (int col = 0; col < kCols; ++col) {
        values[row * kStride + col] = static_cast<float>(comm.rank() * 10000 + row + col);
      }
    }
    const MatView matrix{values.data(), DType::kF32, rows, kCols, kStride};
    for (int round = 0; round < 40; ++round) {
      RowLists give;
      std::vector<int32_t> counts;
      give.begin.push_back(0);
      for (int peer = 0; peer < kRanks; ++peer) {
        for (int i = 0; i < RowsFrom(comm.rank(), peer, round); ++i) {
          give.rows.push_back((i * 17 + peer + round) % rows);
        }
        give.begin.push_back(static_cast<int32_t>(give.rows.size()));
        counts.push_back(RowsFrom(peer, comm.rank(), round));
      }
      std::vector<const void*> received;
      ASSERT_EQ(comm.ExchangeRows(matrix, give, counts, received), absl::OkStatus());
      size_t at = 0;
      for (int peer = 0; peer < kRanks; ++peer) {
        for (int i = 0; i < counts[peer]; ++i, ++at) {
          const auto* row = static_cast<const float*>(received[at]);
          const int first = peer * 10000 + (i * 17 + comm.rank() + round) % rows;
          ASSERT_EQ(row[0], static_cast<float>(first));
          ASSERT_EQ(row[kCols - 1], static_cast<float>(first + kCols - 1));
        }
      }
      ASSERT_EQ(at, received.size());
    }
  });
}

TEST(Gloo, ReceivedRowsStayThroughTheNextExchange) {
  RunRanks(2, kLong, [](GlooCommunicator& comm) {
    std::vector<const void*> before;
    float value = static_cast<float>(comm.rank());
    for (int round = 0; round < 9; ++round) {
      const float sent = value + static_cast<float>(10 * round);
      const RowLists give = comm.rank() == 0 ? RowLists{{0}, {0, 0, 1}} : RowLists{{0}, {0, 1, 1}};
      std::vector<int32_t> counts = {comm.rank(), 1 - comm.rank()};
      std::vector<const void*> received;
      float row = sent;
      ASSERT_EQ(comm.ExchangeRows({&row, DType::kF32, 1, 1, 1}, give, counts, received),
                absl::OkStatus());
      const auto theirs = static_cast<float>(1 - comm.rank());
      ASSERT_EQ(*static_cast<const float*>(received.at(0)),
                theirs + static_cast<float>(10 * round));
      if (round > 0) {
        ASSERT_EQ(*static_cast<const float*>(before.at(0)),
                  theirs + static_cast<float>(10 * (round - 1)));
      }
      before = received;
    }
  });
}

absl::Status GatherAt(GlooCommunicator& comm, const StepStamp& stamp) {
  comm.BeginStep(stamp);
  std::vector<int32_t> all(2);
  return comm.AllGather(std::vector<int32_t>{1}, all);
}

void ExpectRefused(const StepStamp& one, const StepStamp& other, const std::string& at_one,
                   const std::string& at_other) {
  std::barrier together(2);  // nobody leaves before both have read
  RunRanks(2, kLong, [&](GlooCommunicator& comm) {
    const absl::Status status = GatherAt(comm, comm.rank() == 0 ? one : other);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(comm.rank() == 0 ? at_one : at_other));
    std::vector<int32_t> all(2);
    EXPECT_EQ(comm.AllGather(std::vector<int32_t>{1}, all), status) << "it is dead from then on";
    together.arrive_and_wait();
  });
}

TEST(Gloo, RefusesAnotherStepNamingBoth) {
  ExpectRefused({1, 7, 1}, {1, 8, 1}, "rank 1 is at step 8, rank 0 at step 7",
                "rank 0 is at step 7, rank 1 at step 8");
}

TEST(Gloo, RefusesAnotherEpochNamingBoth) {
  ExpectRefused({1, 7, 1}, {2, 7, 1}, "rank 1 is at epoch 2, rank 0 at epoch 1",
                "rank 0 is at epoch 1, rank 1 at epoch 2");
}

TEST(Gloo, RefusesAnotherPlacementNamingBoth) {
  ExpectRefused({1, 7, 3}, {1, 7, 4}, "rank 1 is at placement version 4, rank 0 at placement",
                "rank 0 is at placement version 3, rank 1 at placement");
}

TEST(Gloo, ARankThatDoesNotComeIsNamedWithinTheDeadline) {
  std::barrier together(3);
  RunRanks(3, milliseconds(200), [&](GlooCommunicator& comm) {
    if (comm.rank() != 1) {
      std::vector<int32_t> all(3);
      const absl::Status status = comm.AllGather(std::vector<int32_t>{1}, all);
      EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
      EXPECT_EQ(status.message(), "rank 1 did not answer within 200 ms");
    }
    together.arrive_and_wait();
  });
}

TEST(Gloo, ARankThatIsGoneIsNamed) {
  std::barrier connected(2);
  RunRanks(2, kLong, [&](GlooCommunicator& comm) {
    connected.arrive_and_wait();
    if (comm.rank() == 1) return;  // its sockets close
    std::vector<int32_t> all(2);
    const absl::Status status = comm.AllGather(std::vector<int32_t>{1}, all);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 is gone"));
  });
}

TEST(Gloo, FailEndsACallThatWaits) {
  std::barrier together(2);
  RunRanks(2, kLong, [&](GlooCommunicator& comm) {
    if (comm.rank() == 0) {
      std::thread other([&] { comm.Fail(absl::UnavailableError("somebody said so")); });
      std::vector<int32_t> all(2);
      EXPECT_EQ(comm.AllGather(std::vector<int32_t>{1}, all),
                absl::UnavailableError("somebody said so"));
      other.join();
    }
    together.arrive_and_wait();
  });
}

}  // namespace
}  // namespace ballast
