#include "server/launch.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ballast {
namespace {

// What one launcher calls things; null: it has no such variable.
struct Convention {
  const char* name;
  const char* rank;
  const char* size;
  const char* host;
  const char* port;
  const char* machine_ranks;
};

constexpr std::array<Convention, 5> kConventions = {{
    {"torchrun", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_WORLD_SIZE"},
    {"LeaderWorkerSet", "LWS_WORKER_INDEX", "LWS_GROUP_SIZE", "LWS_LEADER_ADDRESS", nullptr,
     nullptr},
    {"Slurm", "SLURM_PROCID", "SLURM_NTASKS", nullptr, nullptr, nullptr},
    {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", nullptr, nullptr,
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"MPI (PMI)", "PMI_RANK", "PMI_SIZE", nullptr, nullptr, "MPI_LOCALNRANKS"},
}};

const char* Value(const Environment& environment, const char* name) {
  const char* value = name == nullptr ? nullptr : environment(name);
  return value == nullptr || *value == '\0' ? nullptr : value;
}

absl::StatusOr<int> Number(const char* name, const char* value, int low, int high) {
  int number = 0;
  if (absl::SimpleAtoi(value, &number) && number >= low && number <= high) return number;
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": found \"", value, "\", expected ", low, " to ", high));
}

const Convention* FindConvention(const Environment& environment) {
  for (const Convention& convention : kConventions) {
    if (Value(environment, convention.rank) != nullptr &&
        Value(environment, convention.size) != nullptr) {
      return &convention;
    }
  }
  return nullptr;
}

absl::Status SetLeader(const std::string& source, const std::string& host, int port, Launch& to) {
  if (host.empty() || port < 1 || port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat(
        source, ": found \"", host, ":", port, "\", expected HOST:PORT with a port of 1 to 65535"));
  }
  to.leader_host = host;
  to.leader_port = port;
  return absl::OkStatus();
}

absl::Status SetLeaderFromFlag(const std::string& leader, Launch& to) {
  const size_t colon = leader.rfind(':');
  int port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(leader.substr(colon + 1), &port)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--leader: found \"", leader, "\", expected HOST:PORT"));
  }
  std::string host = leader.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);  // [::1]:7010
  }
  return SetLeader("--leader", host, port, to);
}

// Slurm names the step's nodes, in the order of its ranks; other MPI launchers name nobody.
std::string LeaderHost(const Convention& convention, const Environment& environment,
                       const Launch& launch) {
  if (const char* host = Value(environment, convention.host)) return host;
  if (convention.name == std::string_view("Slurm")) {
    for (const char* name : {"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"}) {
      if (const char* list = Value(environment, name)) return FirstSlurmHost(list);
    }
    const char* launch_node = Value(environment, "SLURM_LAUNCH_NODE_IPADDR");
    return launch_node == nullptr ? "" : launch_node;
  }
  return launch.machine_ranks == launch.size ? "127.0.0.1" : "";
}

absl::Status SetLeaderFrom(const Convention& convention, const Environment& environment,
                           Launch& to) {
  const std::string host = LeaderHost(convention, environment, to);
  if (host.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--leader: found nothing, and ", convention.name,
                                                   " does not say where rank 0 is; expected "
                                                   "HOST:PORT"));
  }
  int port = kDefaultLeaderPort;
  if (const char* value = Value(environment, convention.port)) {
    ASSIGN_OR_RETURN(port, Number(convention.port, value, 1, 65534));
    // torchrun's own agent then listens on that port already.
    const char* taken = Value(environment, "TORCHELASTIC_USE_AGENT_STORE");
    if (taken != nullptr && std::string_view(taken) == "True") ++port;
  }
  return SetLeader(convention.name, host, port, to);
}

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.rfind("127.", 0) == 0;
}

absl::Status SetPlace(const LaunchOptions& options, const Convention* convention,
                      const Environment& environment, Launch& to) {
  if (options.world_size) {
    to.size = *options.world_size;
  } else if (convention != nullptr) {
    ASSIGN_OR_RETURN(
        to.size, Number(convention->size, Value(environment, convention->size), 1, kMaxProcesses));
  } else {
    return absl::InvalidArgumentError(
        "--world-size: found nothing, neither as a flag nor from torchrun, LeaderWorkerSet, Slurm "
        "or MPI; expected the number of ranks");
  }
  if (options.rank) {
    to.rank = *options.rank;
  } else if (convention != nullptr) {
    ASSIGN_OR_RETURN(to.rank, Number(convention->rank, Value(environment, convention->rank), 0,
                                     kMaxProcesses - 1));
  } else {
    return absl::InvalidArgumentError(
        "--rank: found nothing, neither as a flag nor from torchrun, LeaderWorkerSet, Slurm or "
        "MPI; expected this process' number");
  }
  if (to.rank >= to.size) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rank: found ", to.rank, ", expected 0 to ", to.size - 1));
  }
  return absl::OkStatus();
}

}  // namespace

std::string FirstSlurmHost(const std::string& list) {
  const size_t open = list.find_first_of("[,");
  if (open == std::string::npos || list[open] == ',') return list.substr(0, open);
  const size_t close = list.find(']', open);
  if (close == std::string::npos) return "";
  const size_t number_end = list.find_first_of("-,]", open);
  const size_t host_end = std::min(list.find_first_of("[,", close), list.size());
  return absl::StrCat(list.substr(0, open), list.substr(open + 1, number_end - open - 1),
                      list.substr(close + 1, host_end - close - 1));
}

absl::StatusOr<Launch> ResolveLaunch(const LaunchOptions& options, const Environment& environment) {
  Launch launch;
  const bool complete = options.world_size && options.rank && !options.leader.empty();
  const Convention* convention = complete ? nullptr : FindConvention(environment);
  launch.convention = convention == nullptr ? "flags" : convention->name;
  RETURN_IF_ERROR(SetPlace(options, convention, environment, launch));
  if (convention != nullptr) {
    if (const char* value = Value(environment, convention->machine_ranks)) {
      ASSIGN_OR_RETURN(launch.machine_ranks,
                       Number(convention->machine_ranks, value, 1, kMaxProcesses));
    }
  }
  if (!options.leader.empty()) {
    RETURN_IF_ERROR(SetLeaderFromFlag(options.leader, launch));
  } else if (convention != nullptr) {
    RETURN_IF_ERROR(SetLeaderFrom(*convention, environment, launch));
  } else {
    return absl::InvalidArgumentError(
        "--leader: found nothing, expected HOST:PORT, where rank 0 listens for the others");
  }
  if (IsLoopback(launch.leader_host)) launch.machine_ranks = launch.size;
  return launch;
}

}  // namespace ballast
