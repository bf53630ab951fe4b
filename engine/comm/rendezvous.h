// Where ranks that do not know each other yet find each other: a few small values under names.
// How the values travel is the server's to say (gRPC to the leader); tests use memory.
#pragma once

#include <chrono>
#include <string>

#include "engine/status.h"

namespace ballast {

// Any thread, many at a time.
class Rendezvous {
 public:
  virtual ~Rendezvous() = default;

  // Visible to all ranks once it has returned; a later value replaces an earlier one. UNAVAILABLE:
  // the leader cannot be reached.
  virtual absl::Status Set(const std::string& key, const std::string& value) = 0;

  // Waits for the value. DEADLINE_EXCEEDED names the key; errors of the meeting itself (a rank that
  // did not come) are whatever its keeper says.
  virtual absl::StatusOr<std::string> Get(const std::string& key,
                                          std::chrono::milliseconds limit) = 0;
};

}  // namespace ballast
