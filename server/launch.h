// Which rank this process is and where its leader is: from flags, or from what launchers put into
// the environment.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "engine/status.h"

namespace ballast {

inline constexpr int kMaxProcesses = 256;
inline constexpr int kDefaultLeaderPort = 7010;

// As given on the command line.
struct LaunchOptions {
  std::string communicator;  // empty: not given
  std::optional<int> world_size;
  std::optional<int> rank;
  std::string leader;  // HOST:PORT; empty: not given
};

struct Launch {
  int rank = 0;
  int size = 1;
  std::string leader_host;
  int leader_port = 0;
  int machine_ranks = 1;   // ranks that share this machine, as far as is known
  std::string convention;  // "flags", or whose variables were used: "torchrun", ..
};

// Value of an environment variable; null: unset.
using Environment = std::function<const char*(const char* name)>;

// Flags first; what they leave open comes from one launcher's variables, the first of these whose
// rank and size are set: torchrun (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), LeaderWorkerSet
// (LWS_WORKER_INDEX, LWS_GROUP_SIZE, LWS_LEADER_ADDRESS), Slurm (SLURM_PROCID, SLURM_NTASKS,
// SLURM_STEP_NODELIST), MPI (OMPI_COMM_WORLD_RANK and _SIZE; PMI_RANK and PMI_SIZE).
// INVALID_ARGUMENT names the flag or variable, what was found and what was expected. Pure.
absl::StatusOr<Launch> ResolveLaunch(const LaunchOptions& options, const Environment& environment);

// The first host of Slurm's list: "gpu[003-010,12],login" -> "gpu003". Empty when it is none.
std::string FirstSlurmHost(const std::string& list);

}  // namespace ballast
