// A rank that is a process of its own and not the leader: it loads what the leader says, runs the
// steps that the leader plans, and ends with it.
#pragma once

#include <cstddef>
#include <functional>

#include "engine/options.h"
#include "engine/process_group.h"
#include "engine/status.h"

namespace ballast {

struct FollowerEvents {
  std::function<void(size_t done, size_t total)> on_loading;  // bytes
  std::function<void()> on_loaded;                            // it waits for steps from now on
};

// Returns OK when the leader has said that all is over. Errors: what the checkpoint, memory or
// options say; UNAVAILABLE when the leader or another rank is gone or silent, naming it.
absl::Status RunFollower(const EngineOptions& options, const ProcessGroup& group,
                         const FollowerEvents& events);

}  // namespace ballast
