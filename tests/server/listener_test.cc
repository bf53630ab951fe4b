#include "server/listener.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/asio.hpp>
#include <condition_variable>
#include <mutex>
#include <vector>

namespace ballast {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::unique_ptr<Listener> Open(const std::string& address = "127.0.0.1:0") {
  auto listener = Listener::Open("--grpc", address);
  EXPECT_TRUE(listener.ok()) << listener.status();
  return *std::move(listener);
}

// Counts and closes what is taken. Outlives the listener.
class Taken {
 public:
  Listener::Take Take() {
    return [this](int descriptor) {
      close(descriptor);
      const std::lock_guard lock(mutex_);
      ++count_;
      changed_.notify_all();
    };
  }
  void Await(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this, count] { return count_ >= count; });
  }
  int count() {
    const std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
};

// Takes one descriptor, or is not connected when there is none: the context, which takes some of
// its own, is made before.
class Client {
 public:
  Client(boost::asio::io_context& context, const Listener& listener) : socket_(context) {
    socket_.connect(
        {boost::asio::ip::address_v4::loopback(), static_cast<uint16_t>(listener.port())}, error_);
  }
  bool connected() const { return !error_; }
  // Waits until the other side has closed the connection.
  bool AwaitClosed() {
    char byte = 0;
    socket_.read_some(boost::asio::buffer(&byte, 1), error_);
    return error_ == boost::asio::error::eof || error_ == boost::asio::error::connection_reset;
  }

 private:
  tcp::socket socket_;
  error_code error_;
};

TEST(Listener, HandsConnectionsOnUntilItIsStopped) {
  Taken taken;
  const auto listener = Open();
  EXPECT_THAT(listener->address(), StartsWith("127.0.0.1:"));
  listener->Start(taken.Take());
  boost::asio::io_context context;
  Client first(context, *listener);
  EXPECT_TRUE(first.AwaitClosed());
  Client second(context, *listener);
  EXPECT_TRUE(second.AwaitClosed());
  taken.Await(2);
  listener->Stop();
  EXPECT_FALSE(Client(context, *listener).connected());
  EXPECT_EQ(taken.count(), 2);
}

TEST(Listener, EveryAddressOfAHostIsListenedOn) {
  Taken taken;
  const auto listener = Open("localhost:0");
  listener->Start(taken.Take());
  boost::asio::io_context context;
  Client client(context, *listener);  // by its IPv4 address
  EXPECT_TRUE(client.AwaitClosed());
}

TEST(Listener, AnAddressThatCannotBeHadIsAnErrorThatSaysWhy) {
  const auto listener = Open();
  const absl::Status taken = Listener::Open("--grpc", listener->address()).status();
  EXPECT_TRUE(absl::IsUnavailable(taken));
  EXPECT_THAT(std::string(taken.message()), HasSubstr("--grpc " + listener->address()));
  EXPECT_THAT(std::string(taken.message()), HasSubstr("in use"));
  EXPECT_FALSE(Listener::Open("--grpc", "192.0.2.1:0").ok());  // of nobody (RFC 5737)
  EXPECT_TRUE(absl::IsInvalidArgument(Listener::Open("--grpc", "no.such.invalid:0").status()));
}

// As many descriptors as the process has open now, and `more`; as before when it goes.
class FewDescriptors {
 public:
  explicit FewDescriptors(rlim_t more) {
    getrlimit(RLIMIT_NOFILE, &before_);
    const int next = open("/dev/null", O_RDONLY);
    close(next);
    const rlimit few{static_cast<rlim_t>(next) + more, before_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &few);
  }
  ~FewDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

TEST(Listener, GoesOnAfterDescriptorsHaveRunOut) {
  Taken taken;
  const auto listener = Open();
  listener->Start(taken.Take());
  boost::asio::io_context context;
  {
    const FewDescriptors few(40);
    std::vector<std::unique_ptr<Client>> clients;
    // The clients are of this process too, so that none is left in the end.
    do {
      clients.push_back(std::make_unique<Client>(context, *listener));
    } while (clients.back()->connected());
  }
  const int before = taken.count();
  Client late(context, *listener);
  EXPECT_TRUE(late.AwaitClosed());
  taken.Await(before + 1);
}

TEST(Listener, TurnsAwayWhatWouldTakeTheLastDescriptors) {
  Taken taken;
  const auto listener = Open();
  listener->Start(taken.Take());
  boost::asio::io_context context;
  const FewDescriptors few(20);
  Client client(context, *listener);
  ASSERT_TRUE(client.connected());
  EXPECT_TRUE(client.AwaitClosed());
  EXPECT_EQ(taken.count(), 0);
}

}  // namespace
}  // namespace ballast
