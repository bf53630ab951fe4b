// A GPU that fails while it serves: whoever waits hears which one, at once, and nothing hangs.
#include <gmock/gmock.h>

#include <string>

#include "kernels/cuda/emulator/block.h"
#include "kernels/cuda/emulator/machine.h"
#include "tests/engine/invariance.h"

namespace ballast::test {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

void PlantFaultOn(int gpu) {
  EXPECT_EQ(cudaSetDevice(gpu), cudaSuccess);
  cudaStream_t stream = nullptr;
  EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  EXPECT_EQ(emulator::EnqueueLaunch("planted", {dim3(1), dim3(32), 0}, stream,
                                    [] {
                                      emulator::Block::Current().Fail({"here", 1}, "a fault");
                                    }),
            cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
}

TEST(GpuFailure, FailsRequestsAndNamesItsRank) {
  EngineOptions options;
  options.model = MiniModel();
  options.compute = "exact";
  options.device = "cuda";
  options.ranks = 3;
  options.kv_memory_bytes = 16 << 20;
  auto engine = MakeEngine(options);
  Request request;
  request.id = "before";
  request.prompt = {5, 6, 7};
  request.stopping.max_tokens = 3;
  EXPECT_EQ(Ask(*engine, request).status, absl::OkStatus());
  PlantFaultOn(1);
  request.id = "after";
  const absl::Status status = Ask(*engine, request).status;
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), AnyOf(HasSubstr("GPU 1"), HasSubstr("rank 1 of 3")));
  EXPECT_THAT(std::string(status.message()), HasSubstr("a fault"));
  engine.reset();
  emulator::Machine::Replace(emulator::OptionsOfEnvironment());  // whole again, for other tests
}

}  // namespace
}  // namespace ballast::test
