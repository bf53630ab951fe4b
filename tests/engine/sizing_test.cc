#include "engine/sizing.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::HasSubstr;

constexpr size_t kBlockBytes = 1024;

ModelConfig Config() {
  ModelConfig config;
  config.max_context = 256;
  config.vocab_size = 1000;
  return config;
}

TEST(ResolveSizes, TheDefaultHoldsEveryRunningSequenceInFull) {
  EngineOptions options;
  options.max_running = 4;
  const auto sizes = ResolveSizes(options, Config(), kBlockBytes);
  ASSERT_TRUE(sizes.ok()) << sizes.status();
  EXPECT_EQ(sizes->kv_blocks, 4 * 256 / kKvBlockTokens);
  EXPECT_EQ(sizes->kv_bytes, sizes->kv_blocks * kBlockBytes);
  EXPECT_EQ(sizes->max_context, 256);
}

TEST(ResolveSizes, TheDefaultStaysWithinAGibibyte) {
  EngineOptions options;
  const auto sizes = ResolveSizes(options, Config(), size_t{1} << 28);
  ASSERT_TRUE(sizes.ok()) << sizes.status();
  EXPECT_EQ(sizes->kv_blocks, 4);
}

TEST(ResolveSizes, ASmallKvMemoryShortensTheContext) {
  EngineOptions options;
  options.kv_memory_bytes = 3 * kBlockBytes + 5;
  const auto sizes = ResolveSizes(options, Config(), kBlockBytes);
  ASSERT_TRUE(sizes.ok()) << sizes.status();
  EXPECT_EQ(sizes->kv_blocks, 3);
  EXPECT_EQ(sizes->max_context, 3 * kKvBlockTokens);
}

TEST(ResolveSizes, RefusesKvMemoryBelowOneBlock) {
  EngineOptions options;
  options.kv_memory_bytes = 100;
  const auto sizes = ResolveSizes(options, Config(), kBlockBytes);
  EXPECT_EQ(sizes.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(sizes.status().message(), HasSubstr("--kv-memory: found 100 bytes"));
}

TEST(ResolveSizes, RefusesAContextBeyondTheModels) {
  EngineOptions options;
  options.max_context = 257;
  const auto sizes = ResolveSizes(options, Config(), kBlockBytes);
  EXPECT_THAT(sizes.status().message(),
              HasSubstr("--max-context: found 257, expected at most 256"));
}

TEST(ResolveSizes, RefusesAnUnknownCompute) {
  EngineOptions options;
  options.compute = "f16";
  EXPECT_THAT(ResolveSizes(options, Config(), kBlockBytes).status().message(),
              HasSubstr("found \"f16\", expected exact or bf16"));
}

TEST(CheckFits, SaysEveryNumber) {
  EXPECT_TRUE(CheckFits(1 << 20, 2 << 20, 3 << 20, 6 << 20, "memory").ok());
  const absl::Status status = CheckFits(1 << 20, 2 << 20, 3 << 20, (6 << 20) - 1, "GPU 3");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(),
              HasSubstr("weights 1.0 MiB + KV cache 2.0 MiB + workspace 3.0 MiB = 6.0 MiB, but 6.0 "
                        "MiB of GPU 3 are available"));
}

}  // namespace
}  // namespace ballast
