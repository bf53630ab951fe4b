// `ballast serve` as one of several processes: how the leader gathers the others, and what they do.
#pragma once

#include <memory>

#include "engine/process_group.h"
#include "engine/status.h"
#include "server/launch.h"
#include "server/log.h"
#include "server/options.h"
#include "server/stop_request.h"

namespace ballast {

// At the leader: listens for the other ranks as long as it lives.
class RankGathering {
 public:
  // Returns when all ranks have joined. DEADLINE_EXCEEDED names those that have not within
  // --join-timeout.
  static absl::StatusOr<std::unique_ptr<RankGathering>> Gather(const ServeOptions& options,
                                                               const Launch& launch, Log& log);
  ~RankGathering();

  const ProcessGroup& group() const;

 private:
  struct Parts;
  explicit RankGathering(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

// Any other rank: joins, loads, computes, and ends with the leader. OK when the leader stopped in
// order.
absl::Status ServeRank(const ServeOptions& options, const Launch& launch, StopRequest& stop,
                       Log& log);

}  // namespace ballast
