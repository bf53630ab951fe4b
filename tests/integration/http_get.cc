#include "tests/integration/http_get.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace ballast {
namespace {

constexpr int kLimitSeconds = 60;

// What a server on 127.0.0.1 answers until it closes the connection; empty when it does not.
std::string Exchange(uint16_t port, const std::string& request) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval limit = {.tv_sec = kLimitSeconds, .tv_usec = 0};
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
      send(socket, request.data(), request.size(), MSG_NOSIGNAL) ==
          static_cast<ssize_t>(request.size())) {
    char piece[1 << 14];
    for (ssize_t got = 0; (got = recv(socket, piece, sizeof(piece), 0)) > 0;) {
      answer.append(piece, static_cast<size_t>(got));
    }
  }
  close(socket);
  return answer;
}

}  // namespace

HttpAnswer HttpGet(const std::string& address, const std::string& path) {
  const size_t colon = address.rfind(':');
  const std::string port = colon == std::string::npos ? address : address.substr(colon + 1);
  // HTTP/1.0: the body comes whole, not in chunks, and the end of the connection is its end.
  const std::string answer = Exchange(static_cast<uint16_t>(std::atoi(port.c_str())),
                                      "GET " + path + " HTTP/1.0\r\nHost: localhost\r\n\r\n");
  const size_t status = answer.find(' ');
  const size_t body = answer.find("\r\n\r\n");
  if (status == std::string::npos || body == std::string::npos) return {};
  return {std::atoi(answer.c_str() + status), answer.substr(body + 4)};
}

}  // namespace ballast
