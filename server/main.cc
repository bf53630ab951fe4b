#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "server/commands.h"
#include "server/knobs.h"
#include "server/options.h"

namespace ballast {
namespace {

constexpr char kHelp[] =
    "Ballast serves Mixture-of-Experts language models.\n"
    "\n"
    "Usage: ballast COMMAND ...\n"
    "\n"
    "Commands:\n"
    "  serve MODEL      load a model and answer requests over gRPC\n"
    "  generate PROMPT  ask a running server to continue a text\n"
    "  inspect MODEL    say what a model folder holds and what serving it takes\n"
    "  plan MODEL       say where its experts stand, also for TensorRT-LLM and SGLang\n"
    "  top              show what the experts of a running server do, live\n"
    "\n"
    "Options:\n"
    "  -h, --help       this; `ballast COMMAND --help` tells a command's options\n"
    "  --version        the version\n"
    "\n"
    "Try:\n"
    "  ballast serve models/ballast-mini &\n"
    "  ballast generate \"The experts\"\n";

int Run(const std::vector<std::string>& arguments) {
  if (arguments.empty()) {
    std::fputs(kHelp, stderr);
    return kWrongUsage;
  }
  const std::string& command = arguments.front();
  const std::vector<std::string> rest(arguments.begin() + 1, arguments.end());
  if (command == "serve") return RunServe(rest);
  if (command == "generate") return RunGenerate(rest);
  if (command == "inspect") return RunInspect(rest);
  if (command == "plan") return RunPlan(rest);
  if (command == "top") return RunTop(rest);
  if (command == "--help" || command == "-h" || command == "help") {
    std::fputs(kHelp, stdout);
    return kDone;
  }
  if (command == "--version") {
    std::puts("ballast " BALLAST_VERSION);
    return kDone;
  }
  if (command == "--help-markdown") {
    std::fputs(DescribeOptions().c_str(), stdout);
    return kDone;
  }
  const std::string near =
      SuggestName(command, {"serve", "generate", "inspect", "plan", "top", "--help", "--version"});
  std::fprintf(stderr, "ballast: unknown command '%s'%s\nSee ballast --help.\n", command.c_str(),
               near.c_str());
  return kWrongUsage;
}

}  // namespace

int FinishOutput(const std::string& command) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return kDone;
  std::fprintf(stderr, "ballast %s: stdout: the answer cannot be written\n", command.c_str());
  return kFailed;
}

int ReportUsage(const std::string& command, const absl::Status& status) {
  std::fprintf(stderr, "ballast %s: %s\nSee ballast %s --help.\n", command.c_str(),
               std::string(status.message()).c_str(), command.c_str());
  return kWrongUsage;
}

}  // namespace ballast

int main(int argc, char** argv) {
  // gRPC's own lines on stderr follow no format of ours; its errors reach us as statuses. Whoever
  // wants them sets the variable.
  setenv("GRPC_VERBOSITY", "NONE", 0);
  return ballast::Run(std::vector<std::string>(argv + 1, argv + argc));
}
