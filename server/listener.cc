#include "server/listener.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/units.h"

namespace ballast {
namespace {

namespace asio = boost::asio;
using boost::asio::ip::tcp;
using boost::system::error_code;

// A pause after accept() failed, for want of descriptors above all.
constexpr std::chrono::milliseconds kAcceptPause(100);
// Kept free for metrics, files and libraries.
constexpr int64_t kSpareDescriptors = 32;

// A name such as localhost may have an address of a family that this machine lacks.
bool IsForeign(const error_code& error) {
  return error == asio::error::address_family_not_supported ||
         error == boost::system::errc::address_not_available;
}

int64_t DescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  constexpr rlim_t kMost = 1 << 30;
  return static_cast<int64_t>(std::min(limit.rlim_cur, kMost));
}

}  // namespace

int64_t RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  return DescriptorLimit();
}

struct Listener::Loop {
  error_code Listen(const tcp::endpoint& endpoint) {
    error_code error;
    tcp::acceptor acceptor(context);
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error && endpoint.protocol() == tcp::v6()) {
      acceptor.set_option(asio::ip::v6_only(true), error);
    }
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (!error) acceptors.push_back(std::move(acceptor));
    return error;
  }

  void Accept(tcp::acceptor& acceptor) {
    acceptor.async_accept([this, &acceptor](error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (error) {
        auto pause = std::make_shared<asio::steady_timer>(context, kAcceptPause);
        pause->async_wait([this, &acceptor, pause](error_code) { Accept(acceptor); });
        return;
      }
      Hand(std::move(socket));
      Accept(acceptor);
    });
  }

  void Hand(tcp::socket socket) {
    // The system gives the lowest number that is free, so it says how many are taken.
    if (socket.native_handle() >= DescriptorLimit() - kSpareDescriptors) return;
    error_code error;
    socket.non_blocking(true, error);
    socket.set_option(tcp::no_delay(true), error);
    const int descriptor = socket.release(error);
    if (!error) take(descriptor);
  }

  std::string address;
  int port = 0;
  Take take;
  asio::io_context context{1};
  std::deque<tcp::acceptor> acceptors;
  std::thread thread;
};

Listener::Listener() : loop_(std::make_unique<Loop>()) {}

Listener::~Listener() { Stop(); }

absl::StatusOr<std::unique_ptr<Listener>> Listener::Open(const std::string& flag,
                                                         const std::string& address) {
  ASSIGN_OR_RETURN(const HostPort listen, ParseHostPort(address));
  std::unique_ptr<Listener> listener(new Listener);
  Loop& loop = *listener->loop_;
  error_code error;
  const auto found =
      tcp::resolver(loop.context)
          .resolve(listen.host, std::to_string(listen.port), tcp::resolver::passive, error);
  if (error || found.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, " ", address, ": no such host: ", error.message()));
  }
  loop.port = listen.port;
  for (const auto& entry : found) {
    tcp::endpoint endpoint = entry.endpoint();
    endpoint.port(static_cast<uint16_t>(loop.port));
    error = loop.Listen(endpoint);
    if (error && !IsForeign(error)) break;
    if (!error) loop.port = loop.acceptors.back().local_endpoint().port();
  }
  if (loop.acceptors.empty() || (error && !IsForeign(error))) {
    return absl::UnavailableError(
        absl::StrCat(flag, " ", address, ": cannot listen there: ", error.message()));
  }
  loop.address = FormatHostPort(listen.host, loop.port);
  return listener;
}

void Listener::Start(Take take) {
  loop_->take = std::move(take);
  for (tcp::acceptor& acceptor : loop_->acceptors) loop_->Accept(acceptor);
  loop_->thread = std::thread([loop = loop_.get()] { loop->context.run(); });
}

void Listener::Stop() {
  loop_->context.stop();
  if (loop_->thread.joinable()) loop_->thread.join();
  loop_->acceptors.clear();
}

const std::string& Listener::address() const { return loop_->address; }

int Listener::port() const { return loop_->port; }

}  // namespace ballast
