// `ballast plan`: where a model's experts stand, as a file for Ballast or for other servers.
#include <cstdio>
#include <string>

#include "engine/initial_placement.h"
#include "server/commands.h"
#include "server/options.h"

namespace ballast {
namespace {

PlacementFormat FormatOf(const std::string& name) {
  if (name == "tensorrt-llm") return PlacementFormat::kTensorRtLlm;
  if (name == "sglang") return PlacementFormat::kSglang;
  return PlacementFormat::kYaml;
}

}  // namespace

int RunPlan(const std::vector<std::string>& arguments) {
  PlanOptions options;
  const auto answer = ReadPlanOptions(arguments, options);
  if (!answer.ok()) return ReportUsage("plan", answer.status());
  if (*answer) {
    std::fputs((*answer)->c_str(), stdout);
    return kDone;
  }
  const absl::StatusOr<PlacementText> placement =
      ExportInitialPlacement(options.engine, FormatOf(options.format));
  if (!placement.ok()) {
    std::fprintf(stderr, "ballast plan: %s\n", std::string(placement.status().message()).c_str());
    return kFailed;
  }
  for (const std::string& warning : placement->warnings) {
    std::fprintf(stderr, "ballast plan: warning: %s\n", warning.c_str());
  }
  std::fputs(placement->text.c_str(), stdout);
  return FinishOutput("plan");
}

}  // namespace ballast
