#include "server/http.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <list>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/units.h"

namespace ballast {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::asio::ip::tcp;
using boost::system::error_code;

// A pause after accept() failed, for want of file descriptors above all.
constexpr std::chrono::milliseconds kAcceptPause(100);

HttpPage PlainPage(int status, std::string body) {
  HttpPage page;
  page.status = status;
  page.body = std::move(body) + "\n";
  return page;
}

HttpPage FindPage(const HttpPages& pages, std::string_view target) {
  const std::string path(target.substr(0, target.find('?')));
  const auto at = pages.find(path);
  if (at != pages.end()) return at->second();
  std::string known = "not found; there are";
  for (const auto& [name, make] : pages) absl::StrAppend(&known, " ", name);
  return PlainPage(404, known);
}

int StatusOf(const error_code& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) return 431;
  if (error == http::error::body_limit) return 413;
  return 400;
}

// True when the peer sent something that is not HTTP, and so deserves an answer.
bool IsBadRequest(const error_code& error) {
  return error.category() == http::make_error_code(http::error::bad_method).category() &&
         error != http::error::end_of_stream && error != http::error::partial_message;
}

class Connection;

// Connections that wait for a request, the longest waiting first, and how many there are in all.
struct Connections {
  std::list<Connection*> waiting;
  size_t open = 0;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, const HttpOptions& options, const HttpPages& pages,
             Connections& connections)
      : options_(options),
        pages_(pages),
        connections_(connections),
        stream_(std::move(socket)),
        buffer_(options.max_header_bytes + options.max_body_bytes) {
    ++connections_.open;
  }

  ~Connection() {
    StopWaiting();
    --connections_.open;
  }

  void Read() {
    waiting_at_ = connections_.waiting.insert(connections_.waiting.end(), this);
    parser_.emplace();
    parser_->header_limit(options_.max_header_bytes);
    parser_->body_limit(options_.max_body_bytes);
    // One deadline for the whole request: a client that drips bytes does not push it back.
    stream_.expires_after(options_.read_limit);
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](error_code error, size_t) {
                       self->StopWaiting();
                       self->Answer(error);
                     });
  }

  void Close() {
    StopWaiting();
    stream_.close();
  }

 private:
  void StopWaiting() {
    if (!waiting_at_) return;
    connections_.waiting.erase(*waiting_at_);
    waiting_at_.reset();
  }

  void Answer(const error_code& error) {
    if (IsBadRequest(error)) {
      Write(PlainPage(StatusOf(error), "bad request: " + error.message()), 11, false, false);
      return;
    }
    if (error) return;
    const auto& request = parser_->get();
    const bool head = request.method() == http::verb::head;
    const bool known_method = head || request.method() == http::verb::get;
    const beast::string_view target = request.target();
    HttpPage page = known_method ? FindPage(pages_, {target.data(), target.size()})
                                 : PlainPage(405, "only GET and HEAD");
    Write(std::move(page), request.version(), request.keep_alive(), head);
  }

  void Write(HttpPage page, unsigned version, bool keep_alive, bool head) {
    response_ = {};
    response_.version(version);
    response_.result(static_cast<unsigned>(page.status));
    response_.set(http::field::content_type, page.content_type);
    response_.set(http::field::cache_control, "no-store");
    if (page.status == 405) response_.set(http::field::allow, "GET, HEAD");
    response_.keep_alive(keep_alive);
    const size_t length = page.body.size();
    if (!head) response_.body() = std::move(page.body);
    response_.content_length(length);
    stream_.expires_after(options_.write_limit);
    http::async_write(stream_, response_, [self = shared_from_this()](error_code error, size_t) {
      if (error) return;
      if (self->response_.need_eof()) {
        self->stream_.socket().shutdown(tcp::socket::shutdown_send, error);
        return;
      }
      self->Read();
    });
  }

  const HttpOptions& options_;
  const HttpPages& pages_;
  Connections& connections_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  http::response<http::string_body> response_;
  std::optional<std::list<Connection*>::iterator> waiting_at_;
};

}  // namespace

struct HttpServer::Loop {
  Loop(HttpOptions given, HttpPages served)
      : options(std::move(given)), pages(std::move(served)), acceptor(context), pause(context) {}

  void Accept() {
    acceptor.async_accept([this](error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (error) {
        pause.expires_after(kAcceptPause);
        pause.async_wait([this](error_code stopped) {
          if (!stopped) Accept();
        });
        return;
      }
      Take(std::move(socket));
      Accept();
    });
  }

  void Take(tcp::socket socket) {
    if (connections.open >= options.max_connections) {
      // All are being answered: the newcomer goes, its socket closed by its destructor.
      if (connections.waiting.empty()) return;
      connections.waiting.front()->Close();
    }
    std::make_shared<Connection>(std::move(socket), options, pages, connections)->Read();
  }

  const HttpOptions options;
  const HttpPages pages;
  std::string address;
  // Declared before the context, whose end destroys the connections that count themselves here.
  Connections connections;
  asio::io_context context{1};
  tcp::acceptor acceptor;
  asio::steady_timer pause;
  std::thread thread;
};

HttpServer::HttpServer() = default;

HttpServer::~HttpServer() {
  loop_->context.stop();
  if (loop_->thread.joinable()) loop_->thread.join();
}

const std::string& HttpServer::address() const { return loop_->address; }

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpOptions& options,
                                                              HttpPages pages) {
  ASSIGN_OR_RETURN(const HostPort listen, ParseHostPort(options.address));
  std::unique_ptr<HttpServer> server(new HttpServer);
  server->loop_ = std::make_unique<Loop>(options, std::move(pages));
  Loop& loop = *server->loop_;
  error_code error;
  tcp::resolver resolver(loop.context);
  const auto found =
      resolver.resolve(listen.host, std::to_string(listen.port), tcp::resolver::passive, error);
  if (error || found.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--http ", options.address, ": no such host: ", error.message()));
  }
  const tcp::endpoint endpoint = found.begin()->endpoint();
  loop.acceptor.open(endpoint.protocol(), error);
  if (!error) loop.acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) loop.acceptor.bind(endpoint, error);
  if (!error) loop.acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat("--http ", options.address, ": cannot listen there: ", error.message()));
  }
  loop.address = FormatHostPort(listen.host, loop.acceptor.local_endpoint().port());
  loop.Accept();
  loop.thread = std::thread([&loop] { loop.context.run(); });
  return server;
}

}  // namespace ballast
