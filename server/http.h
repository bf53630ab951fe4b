// A small HTTP/1.1 server for pages that machines read: GET and HEAD of a few fixed paths. One
// thread; every connection, header, body and wait is bounded.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "engine/status.h"

namespace ballast {

struct HttpPage {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// Path -> what makes its page. Called on the server's thread; should be quick.
using HttpPages = std::map<std::string, std::function<HttpPage()>>;

struct HttpOptions {
  std::string address = "127.0.0.1:7001";  // port 0 picks a free one
  // When one more comes, the connection that has waited longest for a request is closed for it.
  size_t max_connections = 256;
  uint32_t max_header_bytes = 16 << 10;
  uint32_t max_body_bytes = 64 << 10;
  // A request must be whole this long after the connection began to wait for it.
  std::chrono::milliseconds read_limit = std::chrono::seconds(30);
  std::chrono::milliseconds write_limit = std::chrono::seconds(30);
};

class HttpServer {
 public:
  // Listens and starts the thread. Errors: INVALID_ARGUMENT for an address that does not resolve,
  // UNAVAILABLE when it cannot be listened on.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpOptions& options,
                                                           HttpPages pages);
  // Closes all connections.
  ~HttpServer();

  const std::string& address() const;  // HOST:PORT, the port as picked

 private:
  struct Loop;
  HttpServer();
  std::unique_ptr<Loop> loop_;
};

}  // namespace ballast
