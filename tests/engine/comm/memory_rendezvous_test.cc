#include "engine/comm/memory_rendezvous.h"

#include <thread>

#include "gtest/gtest.h"

namespace ballast {
namespace {

using std::chrono::milliseconds;

TEST(MemoryRendezvous, GetWaitsForSet) {
  MemoryRendezvous rendezvous;
  std::thread other([&] { EXPECT_EQ(rendezvous.Set("a", "1"), absl::OkStatus()); });
  EXPECT_EQ(*rendezvous.Get("a", std::chrono::minutes(1)), "1");
  other.join();
  EXPECT_EQ(rendezvous.Set("a", "2"), absl::OkStatus());
  EXPECT_EQ(*rendezvous.Get("a", milliseconds(0)), "2");
}

TEST(MemoryRendezvous, NamesTheKeyThatNobodySet) {
  MemoryRendezvous rendezvous;
  EXPECT_EQ(rendezvous.Get("rows/1", milliseconds(1)).status(),
            absl::DeadlineExceededError("rendezvous: nobody set \"rows/1\" within 1 ms"));
}

TEST(MemoryRendezvous, FailEndsWhoWaitsAndWhoComes) {
  MemoryRendezvous rendezvous;
  std::thread other([&] { rendezvous.Fail(absl::UnavailableError("over")); });
  EXPECT_EQ(rendezvous.Get("a", std::chrono::minutes(1)).status(), absl::UnavailableError("over"));
  other.join();
  EXPECT_EQ(rendezvous.Set("a", "1"), absl::UnavailableError("over"));
}

TEST(MemoryRendezvous, KeepsOnlySoMuch) {
  MemoryRendezvous rendezvous;
  const std::string large(kMaxRendezvousBytes - 10, 'x');
  EXPECT_EQ(rendezvous.Set("a", large), absl::OkStatus());
  EXPECT_EQ(rendezvous.Set("a", large), absl::OkStatus());
  EXPECT_EQ(rendezvous.Set("b", "0123456789").code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace ballast
