// GET over HTTP, as a browser or Prometheus would.
#pragma once

#include <string>

namespace ballast {

struct HttpAnswer {
  int status = 0;  // 0: nothing that is HTTP came
  std::string body;
};

// `address`: PORT of this machine, or HOST:PORT, of which the port counts. Reads until the server
// closes the connection, a minute at most.
HttpAnswer HttpGet(const std::string& address, const std::string& path);

}  // namespace ballast
