#include "engine/comm/gloo_mesh.h"

#include <barrier>
#include <chrono>
#include <latch>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/comm/gloo_ranks.h"

namespace ballast {
namespace {

using testing::HasSubstr;

TEST(GlooMesh, BytesArriveInTheOrderTheyWereSent) {
  test::RunMeeting(2, [](const Meeting& meeting) {
    auto mesh = GlooMesh::Connect(meeting, "test");
    ASSERT_EQ(mesh.status(), absl::OkStatus());
    const int peer = 1 - meeting.rank;
    GlooBuffer out(**mesh);
    GlooBuffer in(**mesh);
    for (int i = 1; i < 100; ++i) {
      out.Reserve(i)[i - 1] = static_cast<std::byte>(i);
      in.Reserve(i);
      ASSERT_EQ(in.Receive(peer, 5, i), absl::OkStatus());
      ASSERT_EQ(out.Send(peer, 5, i), absl::OkStatus());
      ASSERT_EQ(in.WaitReceived(), absl::OkStatus());
      ASSERT_EQ(out.WaitSent(), absl::OkStatus());
      ASSERT_EQ(in.data()[i - 1], static_cast<std::byte>(i));
    }
  });
}

TEST(GlooMesh, MeshesOfAnyPurposeStandBesideEachOther) {
  test::RunMeeting(3, [](const Meeting& meeting) {
    auto rows = GlooMesh::Connect(meeting, "rows");
    auto plans = GlooMesh::Connect(meeting, "plans");
    ASSERT_EQ(rows.status(), absl::OkStatus());
    ASSERT_EQ(plans.status(), absl::OkStatus());
    (*rows)->Fail(absl::UnavailableError("rows only"));
    EXPECT_EQ((*rows)->failure(), absl::UnavailableError("rows only"));
    EXPECT_EQ((*plans)->failure(), absl::OkStatus());
    std::byte byte{};
    GlooBuffer out(**plans);
    out.Use(&byte, 1);
    GlooBuffer in(**plans);
    in.Reserve(1);
    const int next = (meeting.rank + 1) % 3;
    ASSERT_EQ(in.Receive((meeting.rank + 2) % 3, 1, 1), absl::OkStatus());
    ASSERT_EQ(out.Send(next, 1, 1), absl::OkStatus());
    EXPECT_EQ(in.WaitReceived(), absl::OkStatus());
    EXPECT_EQ(out.WaitSent(), absl::OkStatus());
  });
}

TEST(GlooMesh, SaysWhatTheRendezvousSaidWhenSomebodyDoesNotCome) {
  MemoryRendezvous rendezvous;
  Meeting meeting;
  meeting.size = 2;
  meeting.rendezvous = &rendezvous;
  meeting.limit = std::chrono::milliseconds(50);
  meeting.prefix = "epoch-1";
  const absl::Status late = GlooMesh::Connect(meeting, "rows").status();
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(late.message()), HasSubstr("rank 1 did not connect for rows in time: "));
  rendezvous.Fail(absl::UnavailableError("rank 1 has not joined"));
  EXPECT_EQ(GlooMesh::Connect(meeting, "rows").status(),
            absl::UnavailableError("rank 1 has not joined"));
}

// Two ranks tell each other their addresses, after their host names; rank 1 is gone by the time
// that rank 0 learns its.
class LeftByRank1 : public Rendezvous {
 public:
  LeftByRank1(Rendezvous& rendezvous, int rank, std::latch& left)
      : rendezvous_(rendezvous), rank_(rank), left_(left) {}
  absl::Status Set(const std::string& key, const std::string& value) override {
    return rendezvous_.Set(key, value);
  }
  absl::StatusOr<std::string> Get(const std::string& key,
                                  std::chrono::milliseconds limit) override {
    const bool of_host_name = key.find("rank_") != std::string::npos;
    if (!of_host_name && rank_ == 1) return absl::UnavailableError("gone");
    if (!of_host_name) left_.wait();
    return rendezvous_.Get(key, limit);
  }

 private:
  Rendezvous& rendezvous_;
  const int rank_;
  std::latch& left_;
};

TEST(GlooMesh, ARankThatIsGoneBeforeItConnectsIsNamed) {
  std::latch left(1);
  test::RunMeeting(2, [&left](const Meeting& given) {
    Meeting meeting = given;
    meeting.limit = std::chrono::seconds(1);
    LeftByRank1 rendezvous(*given.rendezvous, meeting.rank, left);
    meeting.rendezvous = &rendezvous;
    const absl::Status status = GlooMesh::Connect(meeting, "rows").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(meeting.rank == 1 ? "gone" : "cannot connect to rank 1 for rows: "));
    if (meeting.rank == 1) left.count_down();
  });
}

TEST(GlooMesh, AnAddressOfAnotherMachineIsAnError) {
  MemoryRendezvous rendezvous;
  Meeting meeting;
  meeting.size = 2;
  meeting.rendezvous = &rendezvous;
  meeting.address = "192.0.2.1";  // RFC 5737: nobody's
  const absl::Status status = GlooMesh::Connect(meeting, "rows").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("address 192.0.2.1: "));
}

}  // namespace
}  // namespace ballast
