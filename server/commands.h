// The commands of the `ballast` program. Each takes the arguments after its name and returns the
// exit code: 0 done, 1 failed, 2 wrong usage. Answers go to stdout, everything else to stderr.
#pragma once

#include <string>
#include <vector>

#include "engine/status.h"

namespace ballast {

inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kWrongUsage = 2;

int RunServe(const std::vector<std::string>& arguments);
int RunGenerate(const std::vector<std::string>& arguments);
int RunInspect(const std::vector<std::string>& arguments);
int RunPlan(const std::vector<std::string>& arguments);
int RunTop(const std::vector<std::string>& arguments);

// What a command ends with that has written its answer to stdout: kFailed, and why on stderr, when
// not all of it was taken.
int FinishOutput(const std::string& command);

// Says on stderr what is wrong with a command line; returns kWrongUsage.
int ReportUsage(const std::string& command, const absl::Status& status);

}  // namespace ballast
