// What is said of machines that have no GPU for us.
#include "kernels/cuda/find_gpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda/emulator/machine.h"

namespace ballast::cuda {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// What ListGpus finds wrong with an emulated machine.
std::string ProblemWith(const emulator::MachineOptions& options) {
  emulator::Machine::Replace(options);
  std::string problem;
  EXPECT_TRUE(ListGpus(&problem).empty());
  emulator::Machine::Replace({});
  return problem;
}

TEST(FindGpus, SaysWhatIsMissing) {
  EXPECT_EQ(ProblemWith({.driver_version = 0}),
            "no NVIDIA driver is installed, CUDA 13.0 needs one");
  EXPECT_EQ(ProblemWith({.driver_version = 12040}),
            "the NVIDIA driver is for CUDA 12.4, expected CUDA 13.0 or later");
  EXPECT_THAT(ProblemWith({.devices = 0}), StartsWith("no GPU is visible"));
}

TEST(FindGpus, RunsItsCodeWhereItRuns) {
  const auto check = [](std::vector<Architecture> architectures) {
    std::vector<Gpu> gpus;
    for (const Architecture& architecture : architectures) gpus.push_back({"A", architecture});
    return CheckGpus(gpus);
  };
  EXPECT_EQ(check({{8, 0}}), "");
  EXPECT_EQ(check({{8, 9}, {8, 9}}), "") << "sm_80's code runs on 8.9";
  EXPECT_EQ(check({{9, 0}}), "");
  EXPECT_EQ(check({{10, 3}}), "");
  EXPECT_EQ(check({{7, 0}}), "GPU 0 (A, sm_70): this build has code for sm_80, sm_90, sm_100");
  EXPECT_THAT(check({{9, 0}, {12, 0}}), StartsWith("GPU 1 (A, sm_120): this build has code for"));
  EXPECT_THAT(check({{9, 0}, {8, 0}}), HasSubstr("expected the architecture of GPU 0 (A, sm_90)"));
}

}  // namespace
}  // namespace ballast::cuda
