// Accepts TCP connections and hands them on.
//
// gRPC's own listener gives up for good the first time that descriptors run out; this one turns
// away what comes on top and goes on.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "engine/status.h"

namespace ballast {

class Listener {
 public:
  // Whose the descriptor is from then on; non-blocking, without delay. On the listener's thread.
  using Take = std::function<void(int descriptor)>;

  // Listens at HOST:PORT, port 0 for a free one, on every address of the host; nothing is accepted
  // yet. Errors begin with `flag`: INVALID_ARGUMENT when the host does not resolve, UNAVAILABLE
  // when an address cannot be listened on.
  static absl::StatusOr<std::unique_ptr<Listener>> Open(const std::string& flag,
                                                        const std::string& address);
  // Stops.
  ~Listener();

  // Once.
  void Start(Take take);
  // Nothing is taken any more when it returns. May be called again.
  void Stop();

  const std::string& address() const;  // HOST:PORT, the port as picked
  int port() const;

 private:
  struct Loop;
  Listener();
  std::unique_ptr<Loop> loop_;
};

// Allows the process as many descriptors as the system lets it have; how many those are.
int64_t RaiseDescriptorLimit();

}  // namespace ballast
