#include "server/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio.hpp>
#include <thread>

#include "server/units.h"

namespace ballast {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

HttpOptions AnyPort() {
  HttpOptions options;
  options.address = "127.0.0.1:0";
  return options;
}

std::unique_ptr<HttpServer> StartServer(const HttpOptions& options) {
  HttpPages pages;
  pages["/health"] = [] { return HttpPage{503, "application/json", "{\"status\":\"loading\"}"}; };
  pages["/page"] = [] { return HttpPage{200, "text/plain", "hello"}; };
  pages["/large"] = [] { return HttpPage{200, "text/plain", std::string(4 << 20, 'x')}; };
  auto server = HttpServer::Start(options, std::move(pages));
  EXPECT_TRUE(server.ok()) << server.status();
  return *std::move(server);
}

// A plain connection that says what the test likes.
class Client {
 public:
  explicit Client(const HttpServer& server) : socket_(context_) {
    const HostPort address = ParseHostPort(server.address()).value();
    socket_.connect(
        {boost::asio::ip::make_address(address.host), static_cast<uint16_t>(address.port)});
  }

  void Send(const std::string& text) {
    error_code ignored;  // the server may have hung up already
    boost::asio::write(socket_, boost::asio::buffer(text), ignored);
  }
  // All until the server hangs up.
  std::string ReadAll() {
    std::string text;
    error_code error;
    boost::asio::read(socket_, boost::asio::dynamic_buffer(text), error);
    return text;
  }
  std::string ReadUntil(const std::string& end) {
    std::string text;
    error_code error;
    const size_t size =
        boost::asio::read_until(socket_, boost::asio::dynamic_buffer(text), end, error);
    return text.substr(0, error ? text.size() : size);
  }

 private:
  boost::asio::io_context context_;
  tcp::socket socket_;
};

std::string Ask(const HttpServer& server, const std::string& request) {
  Client client(server);
  client.Send(request);
  return client.ReadAll();
}

std::string Get(const HttpServer& server, const std::string& target,
                const std::string& method = "GET") {
  return Ask(server, method + " " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
}

TEST(Http, PagesAreAnsweredWithStatusTypeAndBody) {
  const auto server = StartServer(AnyPort());
  const std::string page = Get(*server, "/page?x=1");
  EXPECT_THAT(page, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(page, HasSubstr("Content-Type: text/plain\r\n"));
  EXPECT_THAT(page, HasSubstr("Content-Length: 5\r\n"));
  EXPECT_THAT(page, HasSubstr("\r\n\r\nhello"));
  EXPECT_THAT(Get(*server, "/health"), StartsWith("HTTP/1.1 503"));
  EXPECT_GT(Get(*server, "/large").size(), size_t{4} << 20);
}

TEST(Http, HeadSaysTheLengthAndSendsNoBody) {
  const auto server = StartServer(AnyPort());
  const std::string page = Get(*server, "/page", "HEAD");
  EXPECT_THAT(page, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(page, HasSubstr("Content-Length: 5\r\n"));
  EXPECT_THAT(page, Not(HasSubstr("hello")));
}

TEST(Http, OtherPathsAndMethodsAreRefused) {
  const auto server = StartServer(AnyPort());
  EXPECT_THAT(Get(*server, "/nowhere"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Get(*server, "/page/"), StartsWith("HTTP/1.1 404"));
  const std::string post = Ask(*server,
                               "POST /page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                               "Content-Length: 2\r\n\r\nab");
  EXPECT_THAT(post, StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(post, HasSubstr("Allow: GET, HEAD\r\n"));
  EXPECT_THAT(Get(*server, "/page", "BREW"), StartsWith("HTTP/1.1 405"));
}

TEST(Http, ConnectionsAreKeptAndRequestsMayQueueOnThem) {
  const auto server = StartServer(AnyPort());
  Client client(*server);
  const std::string request = "GET /page HTTP/1.1\r\nHost: x\r\n\r\n";
  client.Send(request);
  EXPECT_THAT(client.ReadUntil("hello"), StartsWith("HTTP/1.1 200"));
  client.Send(request + "GET /page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string both = client.ReadAll();
  EXPECT_NE(both.find("hello"), both.rfind("hello"));
}

TEST(Http, GarbageGetsABadRequestAndHarmsNobody) {
  const auto server = StartServer(AnyPort());
  for (const std::string& garbage :
       {std::string("\x16\x03\x01\x02\x00\x01\x00", 7) + "\r\n\r\n",  // a TLS hello
        std::string("GET\r\n\r\n"), std::string("GET /page HTTP/9.9\r\n\r\n"),
        std::string("GET /page HTTP/1.1\r\nbroken header\r\n\r\n"),
        std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), std::string(100, '\0') + "\r\n\r\n",
        std::string("GET /page HTTP/1.1\r\nContent-Length: -1\r\n\r\n")}) {
    EXPECT_THAT(Ask(*server, garbage), StartsWith("HTTP/1.1 400")) << garbage;
  }
  EXPECT_THAT(Get(*server, "/page"), HasSubstr("hello"));
}

TEST(Http, HeadersAndBodiesAreBounded) {
  const auto server = StartServer(AnyPort());
  EXPECT_THAT(Ask(*server, "GET /page HTTP/1.1\r\nX: " + std::string(1 << 16, 'x') + "\r\n\r\n"),
              StartsWith("HTTP/1.1 431"));
  EXPECT_THAT(Ask(*server, "GET /page HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n"),
              StartsWith("HTTP/1.1 413"));
}

TEST(Http, ARequestThatDripsIsCutOff) {
  HttpOptions options = AnyPort();
  options.read_limit = std::chrono::milliseconds(50);
  const auto server = StartServer(options);
  Client slow(*server);
  std::atomic<bool> over = false;
  std::thread dripping([&] {
    slow.Send("GET /page HTTP/1.1\r\n");
    while (!over) {
      slow.Send("x: y\r\n");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  EXPECT_THAT(slow.ReadAll(), Not(HasSubstr("200")));
  over = true;
  dripping.join();
}

TEST(Http, TheLongestWaitingConnectionMakesRoom) {
  HttpOptions options = AnyPort();
  options.max_connections = 3;
  const auto server = StartServer(options);
  std::vector<std::unique_ptr<Client>> idle;
  for (int i = 0; i < 3; ++i) {
    idle.push_back(std::make_unique<Client>(*server));
    idle.back()->Send("GET /page HTTP/1.1\r\nHost: x\r\n\r\n");
    idle.back()->ReadUntil("hello");
  }
  EXPECT_THAT(Get(*server, "/page"), HasSubstr("hello"));
  EXPECT_EQ(idle[0]->ReadAll(), "");
  idle[2]->Send("GET /page HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(idle[2]->ReadUntil("hello"), HasSubstr("200"));
}

TEST(Http, ManyConnectionsComeAndGo) {
  const auto server = StartServer(AnyPort());
  for (int i = 0; i < 1000; ++i) {
    Client client(*server);
    if (i % 2 == 0) client.Send("GET /la");
  }
  EXPECT_THAT(Get(*server, "/page"), HasSubstr("hello"));
}

TEST(Http, ATakenPortIsAnError) {
  const auto server = StartServer(AnyPort());
  HttpOptions options;
  options.address = server->address();
  const auto second = HttpServer::Start(options, {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(server->address()));
  options.address = "no.such.host.invalid:1";
  EXPECT_EQ(HttpServer::Start(options, {}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Http, StoppingClosesWhatIsOpen) {
  auto server = StartServer(AnyPort());
  Client idle(*server);
  Client reading(*server);
  reading.Send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
  reading.ReadUntil("\r\n");
  server.reset();
  EXPECT_EQ(idle.ReadAll(), "");
}

}  // namespace
}  // namespace ballast
