#include "engine/comm/gloo_channel.h"

#include <barrier>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/comm/gloo_ranks.h"

namespace ballast {
namespace {

TEST(GlooChannel, MessagesOfAnyLengthArriveWhole) {
  test::RunMeeting(2, [](const Meeting& meeting) {
    auto mesh = GlooMesh::Connect(meeting, "plans");
    ASSERT_EQ(mesh.status(), absl::OkStatus());
    GlooChannel channel(**mesh, 1 - meeting.rank);
    uint32_t kind = 0;
    for (const size_t length : {0, 1, 16 << 10, (16 << 10) + 1, 5, 3 << 20, 0, 70000, 2}) {
      std::string bytes(length, 'x');
      if (length > 0) bytes.back() = static_cast<char>('a' + kind);
      ++kind;
      if (meeting.rank == 0) {
        ASSERT_EQ(channel.Send(kind, bytes), absl::OkStatus());
        auto echo = channel.Receive();
        ASSERT_EQ(echo.status(), absl::OkStatus());
        ASSERT_EQ(echo->bytes, bytes);
        ASSERT_EQ(echo->kind, kind + 100);
      } else {
        auto message = channel.Receive();
        ASSERT_EQ(message.status(), absl::OkStatus());
        ASSERT_EQ(message->kind, kind);
        ASSERT_EQ(channel.Send(message->kind + 100, message->bytes), absl::OkStatus());
      }
    }
  });
}

TEST(GlooChannel, OneMeshCarriesAChannelToEveryPeer) {
  test::RunMeeting(3, [](const Meeting& meeting) {
    auto mesh = GlooMesh::Connect(meeting, "plans");
    ASSERT_EQ(mesh.status(), absl::OkStatus());
    if (meeting.rank != 0) {
      GlooChannel channel(**mesh, 0);
      ASSERT_EQ(channel.Receive()->bytes, std::string(meeting.rank, 'p'));
      ASSERT_EQ(channel.Send(2, std::string(meeting.rank, 'r')), absl::OkStatus());
      ASSERT_EQ(channel.Receive()->kind, 3u);  // stays until rank 0 has read
      return;
    }
    GlooChannel one(**mesh, 1);
    GlooChannel two(**mesh, 2);
    ASSERT_EQ(one.Send(1, "p"), absl::OkStatus());
    ASSERT_EQ(two.Send(1, "pp"), absl::OkStatus());
    ASSERT_EQ(one.Receive()->bytes, "r");
    ASSERT_EQ(two.Receive()->bytes, "rr");
    ASSERT_EQ(one.Send(3, ""), absl::OkStatus());
    ASSERT_EQ(two.Send(3, ""), absl::OkStatus());
  });
}

TEST(GlooChannel, TheLastMessageOfAPeerThatGoesArrives) {
  for (int round = 0; round < 20; ++round) {
    test::RunMeeting(2, [](const Meeting& meeting) {
      auto mesh = GlooMesh::Connect(meeting, "plans");
      ASSERT_EQ(mesh.status(), absl::OkStatus());
      GlooChannel channel(**mesh, 1 - meeting.rank);
      if (meeting.rank == 0) {
        ASSERT_EQ(channel.Send(9, "farewell"), absl::OkStatus());
        return;
      }
      const absl::StatusOr<ChannelMessage> last = channel.Receive();
      ASSERT_EQ(last.status(), absl::OkStatus());
      EXPECT_EQ(last->bytes, "farewell");
      EXPECT_EQ(channel.Receive().status().code(), absl::StatusCode::kUnavailable);
    });
  }
}

TEST(GlooChannel, FailEndsAWaitForTheNextMessage) {
  std::barrier together(2);
  test::RunMeeting(2, [&](const Meeting& meeting) {
    auto mesh = GlooMesh::Connect(meeting, "plans");
    ASSERT_EQ(mesh.status(), absl::OkStatus());
    if (meeting.rank == 1) {
      GlooChannel channel(**mesh, 0);
      std::thread other([&] { (*mesh)->Fail(absl::UnavailableError("rank 0 is silent")); });
      EXPECT_EQ(channel.Receive().status(), absl::UnavailableError("rank 0 is silent"));
      other.join();
    }
    together.arrive_and_wait();
  });
}

}  // namespace
}  // namespace ballast
