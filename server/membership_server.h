// The leader's side of ballast.v1.Membership: lets ranks join and keeps what they tell each other.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "engine/comm/memory_rendezvous.h"
#include "engine/status.h"
#include "server/membership.h"

namespace ballast {

class MembershipServer {
 public:
  // Listens at HOST:PORT. UNAVAILABLE when the address is taken or not this machine's. `membership`
  // and `rendezvous` outlive it.
  static absl::StatusOr<std::unique_ptr<MembershipServer>> Start(const std::string& address,
                                                                 int world_size, uint64_t epoch,
                                                                 Membership& membership,
                                                                 MemoryRendezvous& rendezvous);
  // Calls that wait are failed.
  ~MembershipServer();

 private:
  struct Parts;
  explicit MembershipServer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace ballast
