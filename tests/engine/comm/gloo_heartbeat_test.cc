#include "engine/comm/gloo_heartbeat.h"

#include <barrier>
#include <condition_variable>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/comm/gloo_ranks.h"

namespace ballast {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

// Long for a beat, even on a machine that is busy.
constexpr milliseconds kSilence(1500);

// The first loss that a heartbeat tells.
class Loss {
 public:
  std::function<void(const absl::Status&)> Hook() {
    return [this](const absl::Status& why) {
      const std::lock_guard lock(mutex_);
      why_ = why;
      changed_.notify_all();
    };
  }
  absl::Status Await() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::minutes(1), [this] { return !why_.ok(); });
    return why_;
  }
  absl::Status seen() {
    const std::lock_guard lock(mutex_);
    return why_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  absl::Status why_;
};

std::unique_ptr<GlooMesh> Connect(const Meeting& meeting) {
  auto mesh = GlooMesh::Connect(meeting, "heartbeat");
  EXPECT_EQ(mesh.status(), absl::OkStatus());
  return *std::move(mesh);
}

TEST(GlooHeartbeat, ARankThatIsSilentIsNamedAtTheLeader) {
  std::barrier together(3);
  test::RunMeeting(3, [&](const Meeting& meeting) {
    Loss loss;
    auto mesh = Connect(meeting);
    if (meeting.rank == 0) {
      GlooHeartbeat heartbeat(std::move(mesh), kSilence, loss.Hook());
      EXPECT_THAT(std::string(loss.Await().message()), HasSubstr("rank 2 is silent"));
      EXPECT_THAT(std::string(loss.Await().message()), HasSubstr("at most 1500 ms"));
      together.arrive_and_wait();
    } else if (meeting.rank == 1) {
      GlooHeartbeat heartbeat(std::move(mesh), kSilence, loss.Hook());
      together.arrive_and_wait();
      EXPECT_EQ(loss.seen(), absl::OkStatus());
      heartbeat.Deafen();
    } else {
      together.arrive_and_wait();  // connected, but says nothing
    }
  });
}

TEST(GlooHeartbeat, ALeaderThatIsSilentIsNamedAtARank) {
  std::barrier together(2);
  test::RunMeeting(2, [&](const Meeting& meeting) {
    Loss loss;
    auto mesh = Connect(meeting);
    if (meeting.rank == 1) {
      GlooHeartbeat heartbeat(std::move(mesh), kSilence, loss.Hook());
      EXPECT_THAT(std::string(loss.Await().message()), HasSubstr("rank 0 is silent"));
    }
    together.arrive_and_wait();
  });
}

TEST(GlooHeartbeat, ARankThatIsGoneIsNamedAtOnce) {
  std::barrier connected(2);
  test::RunMeeting(2, [&](const Meeting& meeting) {
    Loss loss;
    auto mesh = Connect(meeting);
    connected.arrive_and_wait();
    if (meeting.rank == 1) return;
    GlooHeartbeat heartbeat(std::move(mesh), std::chrono::hours(1), loss.Hook());
    EXPECT_THAT(std::string(loss.Await().message()), HasSubstr("rank 1 is gone"));
  });
}

TEST(GlooHeartbeat, TellsNoLossOnceItIsDeaf) {
  std::barrier together(2);
  test::RunMeeting(2, [&](const Meeting& meeting) {
    Loss loss;
    auto mesh = Connect(meeting);
    auto heartbeat =
        std::make_unique<GlooHeartbeat>(std::move(mesh), std::chrono::hours(1), loss.Hook());
    heartbeat->Deafen();
    together.arrive_and_wait();
    if (meeting.rank == 1) heartbeat.reset();  // gone
    together.arrive_and_wait();
    heartbeat.reset();
    EXPECT_EQ(loss.seen(), absl::OkStatus());
  });
}

}  // namespace
}  // namespace ballast
