// `--device cuda` as a user meets it: what is said of machines that cannot, and the text of those
// that can. GPUs are emulated.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/integration/served_model.h"
#include "tests/support/free_address.h"

namespace ballast {
namespace {

using ::testing::HasSubstr;

using Arguments = std::vector<std::string>;

// Serves on a machine that `variables` describe; expects that it is refused, in one line.
std::string Refusal(const Arguments& variables, const Arguments& more = {}) {
  Arguments command = {"/usr/bin/env"};
  command.insert(command.end(), variables.begin(), variables.end());
  Arguments serve = ServeCommand({"--device", "cuda"}, BALLAST_EMULATED_PROGRAM);
  serve.insert(serve.end(), more.begin(), more.end());
  command.insert(command.end(), serve.begin(), serve.end());
  const Finished finished = RunProgram(command);
  EXPECT_EQ(finished.code, 1) << finished.err;
  EXPECT_EQ(finished.out, "");
  const size_t at = finished.err.find("cannot serve");
  if (at == std::string::npos) return finished.err;
  const std::string last = finished.err.substr(at);
  EXPECT_EQ(std::count(last.begin(), last.end(), '\n'), 1) << finished.err;
  return last;
}

TEST(Gpu, AMachineWithoutADriverIsToldSo) {
  EXPECT_THAT(Refusal({"BALLAST_EMULATED_DRIVER=0"}),
              HasSubstr("--device cuda: no NVIDIA driver is installed, CUDA 13.0 needs one"));
}

TEST(Gpu, ADriverThatIsTooOldIsNamed) {
  EXPECT_THAT(
      Refusal({"BALLAST_EMULATED_DRIVER=12040"}),
      HasSubstr("--device cuda: the NVIDIA driver is for CUDA 12.4, expected CUDA 13.0 or later"));
}

TEST(Gpu, AMachineWithoutGpusIsToldSo) {
  EXPECT_THAT(Refusal({"BALLAST_EMULATED_GPUS=0"}), HasSubstr("--device cuda: no GPU is visible"));
}

TEST(Gpu, AnArchitectureThatTheProgramWasNotBuiltForIsNamed) {
  EXPECT_THAT(Refusal({"BALLAST_EMULATED_SM=70"}),
              HasSubstr("GPU 0 (emulated GPU (this CPU), sm_70): this build has code for sm_80, "
                        "sm_90, sm_100"));
}

TEST(Gpu, MoreRanksThanGpusAreRefusedWithBothNumbers) {
  EXPECT_THAT(Refusal({"BALLAST_EMULATED_GPUS=2"}, {"--ranks", "4"}),
              HasSubstr("--ranks: found 4 on this machine, expected at most 2, one for each GPU"));
}

TEST(Gpu, TooLittleMemoryIsRefusedWithThePlansNumbers) {
  const std::string refusal = Refusal({"BALLAST_EMULATED_GPU_BYTES=20000000"});
  EXPECT_THAT(refusal, HasSubstr("the model does not fit: weights "));
  EXPECT_THAT(refusal, HasSubstr("KV cache "));
  EXPECT_THAT(refusal, HasSubstr("but 19.1 MiB of the memory of GPU 0 are available"));
}

TEST(Gpu, ARankThatNeverComesToMeetOverNcclIsNamedWithinTheDeadline) {
  EXPECT_THAT(Refusal({}, {"--communicator", "nccl", "--world-size", "2", "--rank", "0", "--leader",
                           test::FreeAddress(), "--join-timeout", "300ms"}),
              HasSubstr("rank 1 of 2 has not joined within 0.3 s"));
}

TEST(Gpu, ABuildWithoutCudaNamesThePresetThatHasIt) {
  if (std::string(BALLAST_CUDA) != "OFF") GTEST_SKIP() << "this build has BALLAST_CUDA";
  const Finished finished = RunProgram(ServeCommand({"--device", "cuda"}));
  EXPECT_EQ(finished.code, 1);
  EXPECT_THAT(finished.err, HasSubstr("--device cuda: this build has no CUDA (preset cuda has)"));
  const Finished inspected =
      RunProgram({BALLAST_PROGRAM, "inspect", "--device", "cuda", kBundledModel});
  EXPECT_EQ(inspected.code, 1);
  EXPECT_EQ(inspected.err,
            "ballast inspect: --device cuda: this build has no CUDA (preset cuda has)\n");
}

TEST(Gpu, InExactComputeServesTheTextOfTheCpuAndSaysWhatItRunsOn) {
  const Arguments generate = {"--max-tokens", "12", "--temperature", "0.9",
                              "--seed",       "7",  "The experts"};
  const Arguments serve = {"--compute", "exact", "--kv-memory", "32MiB"};
  ServedModel cpu(serve);
  const std::string want = cpu.Generate(generate).out;
  cpu.Stop();
  EXPECT_NE(want, "");
  Arguments on_gpus = serve;
  on_gpus.insert(on_gpus.end(), {"--device", "cuda", "--ranks", "2"});
  ServedModel gpus(on_gpus, BALLAST_EMULATED_PROGRAM);
  EXPECT_EQ(gpus.Generate(generate).out, want);
  EXPECT_THAT(gpus.Stop(), HasSubstr("gpus=\"2 x emulated GPU (this CPU), sm_90\""));
}

}  // namespace
}  // namespace ballast
