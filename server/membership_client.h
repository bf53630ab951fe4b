// The other ranks' side of ballast.v1.Membership.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/comm/rendezvous.h"
#include "engine/join_facts.h"
#include "engine/status.h"

namespace ballast {

// What the leader keeps, as a Rendezvous. Any thread.
class MembershipClient final : public Rendezvous {
 public:
  explicit MembershipClient(const std::string& leader);  // HOST:PORT
  ~MembershipClient() override;

  // Waits for the leader to be there and for all ranks to have joined. The epoch of the world.
  // DEADLINE_EXCEEDED: no leader answered within `limit`; else what the leader said.
  absl::StatusOr<uint64_t> Join(int rank, int world_size, const std::vector<JoinFact>& facts,
                                std::chrono::milliseconds limit);

  absl::Status Set(const std::string& key, const std::string& value) override;
  absl::StatusOr<std::string> Get(const std::string& key, std::chrono::milliseconds limit) override;

 private:
  struct Stub;
  const std::string leader_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace ballast
