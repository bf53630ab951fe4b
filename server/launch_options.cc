#include "server/launch_options.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/units.h"

namespace ballast {
namespace {

Knob CommunicatorKnob(std::string* target) {
  Knob knob =
      ChoiceKnob("communicator", {"in_process", "gloo", "nccl"}, target,
                 "How ranks talk; gloo: every rank is a process of its own, over TCP; nccl: "
                 "and has a GPU, rows go over NCCL");
  knob.preset = "in_process";
  return knob;
}

}  // namespace

void AddLaunchKnobs(ServeOptions& options, std::vector<Knob>& knobs) {
  const auto ranks = std::find_if(knobs.begin(), knobs.end(),
                                  [](const Knob& knob) { return knob.name == "ranks"; });
  CHECK(ranks != knobs.end());
  ranks->set = [&options, set = ranks->set](std::string_view text) {
    options.ranks_given = true;
    return set(text);
  };
  knobs.push_back(CommunicatorKnob(&options.launch.communicator));
  knobs.push_back(
      OptionalCountKnob("world-size", 1, kMaxProcesses, &options.launch.world_size,
                        "With gloo or nccl: how many ranks there are; default: the launcher's"));
  knobs.push_back(
      OptionalCountKnob("rank", 0, kMaxProcesses - 1, &options.launch.rank,
                        "With gloo or nccl: which one this is; 0 leads and answers clients"));
  knobs.push_back(TextKnob("leader", "HOST:PORT", &options.launch.leader,
                           "With gloo or nccl: where rank 0 listens for the others"));
  knobs.push_back(
      TextKnob("interface", "ADDRESS", &options.interface,
               "With gloo or nccl: this machine's address for the other ranks; default: the one "
               "that leads to the leader"));
  knobs.push_back(
      SecondsKnob("join-timeout", 0.1, 86400, &options.join_timeout_seconds,
                  "With gloo or nccl: how long ranks wait for each other at the start"));
  knobs.push_back(SecondsKnob("peer-timeout", 0.1, 86400, &options.peer_timeout_seconds,
                              "With gloo or nccl: a rank that is silent for so long is lost"));
}

absl::Status CheckLaunch(const ServeOptions& options) {
  const LaunchOptions& launch = options.launch;
  if (launch.communicator == "nccl" && options.engine.device != "cuda") {
    return absl::InvalidArgumentError(absl::StrCat("--communicator: found nccl with --device ",
                                                   options.engine.device,
                                                   ", expected --device cuda"));
  }
  if (launch.communicator == "gloo" || launch.communicator == "nccl") {
    if (!options.ranks_given) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("--ranks: found with --communicator ", launch.communicator,
                     ", expected --world-size: every rank is a process"));
  }
  const std::pair<bool, const char*> only_gloo[] = {{launch.world_size.has_value(), "--world-size"},
                                                    {launch.rank.has_value(), "--rank"},
                                                    {!launch.leader.empty(), "--leader"},
                                                    {!options.interface.empty(), "--interface"}};
  for (const auto& [given, name] : only_gloo) {
    if (given) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": found without --communicator gloo or nccl, expected with one"));
    }
  }
  return absl::OkStatus();
}

}  // namespace ballast
