#include "server/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace ballast {
namespace {

using ::testing::HasSubstr;

std::string WriteFile(const std::string& name, const std::string& text) {
  std::string path = testing::TempDir() + name;
  std::ofstream(path) << text;
  return path;
}

std::string ServeError(const std::vector<std::string>& arguments) {
  ServeOptions options;
  return std::string(ReadServeOptions(arguments, options).status().message());
}

TEST(Options, ServeTakesAllOfItsFlags) {
  ServeOptions options;
  const auto answer = ReadServeOptions({"model",       "--grpc",
                                        "127.0.0.1:0", "--http",
                                        "[::1]:0",     "--served-model-name",
                                        "S",           "--device",
                                        "cpu",         "--kernels",
                                        "reference",   "--compute",
                                        "exact",       "--weights",
                                        "bf16",        "--threads",
                                        "3",           "--kv-memory",
                                        "2GiB",        "--max-context",
                                        "128",         "--step-tokens",
                                        "64",          "--max-running",
                                        "8",           "--max-waiting",
                                        "9",           "--max-waiting-tokens",
                                        "1000",        "--drain-timeout",
                                        "500ms",       "--tls-cert",
                                        "c",           "--tls-key",
                                        "k",           "--tls-client-ca",
                                        "a",           "--api-key-file",
                                        "f",           "--log-level",
                                        "debug",       "--log-format",
                                        "json",        "--ranks",
                                        "4",           "--placement",
                                        "p.yaml",      "--slots-per-rank",
                                        "18"},
                                       options);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_FALSE(answer->has_value());
  EXPECT_EQ(options.engine.model, "model");
  EXPECT_EQ(options.engine.kernels, "reference");
  EXPECT_EQ(options.engine.kv_memory_bytes, int64_t{2} << 30);
  EXPECT_EQ(options.engine.max_waiting_tokens, 1000);
  EXPECT_EQ(options.engine.ranks, 4);
  EXPECT_EQ(options.engine.placement, "p.yaml");
  EXPECT_EQ(options.engine.slots_per_rank, 18);
  EXPECT_EQ(options.drain_timeout_seconds, 0.5);
  EXPECT_EQ(options.tls_client_ca, "a");
  EXPECT_EQ(options.log.format, "json");
}

TEST(Options, DefaultsAreThoseOfTheWire) {
  ServeOptions options;
  ASSERT_TRUE(ReadServeOptions({"model"}, options).ok());
  EXPECT_EQ(options.grpc, "127.0.0.1:7000");
  EXPECT_EQ(options.http, "127.0.0.1:7001");
  EXPECT_EQ(options.drain_timeout_seconds, 30);
}

TEST(Options, FlagsWinOverTheFile) {
  const std::string path =
      WriteFile("serve.yaml", "model: from-file\nthreads: 2\nkv_memory: 1GiB\nlog-level: error\n");
  ServeOptions options;
  ASSERT_TRUE(ReadServeOptions({"--threads", "5", "--config", path}, options).ok());
  EXPECT_EQ(options.engine.threads, 5);
  EXPECT_EQ(options.engine.kv_memory_bytes, int64_t{1} << 30);
  EXPECT_EQ(options.engine.model, "from-file");
  EXPECT_EQ(options.log.level, "error");
}

TEST(Options, FilesCannotNameFiles) {
  const std::string path = WriteFile("nested.yaml", "config: other.yaml\n");
  EXPECT_THAT(ServeError({"m", "--config", path}), HasSubstr("unknown key 'config'"));
  EXPECT_THAT(ServeError({"m", "--config", "/nowhere/x.yaml"}), HasSubstr("cannot read"));
  EXPECT_THAT(ServeError({"m", "--config", "/"}), HasSubstr("cannot read"));
}

TEST(Options, WhatThisBuildLacksIsRefusedByName) {
  EXPECT_EQ(ServeError({"m", "--weights", "int8"}),
            "--weights: found 'int8', expected bf16 (int8 and int4 are not in this build)");
  EXPECT_THAT(ServeError({"m", "--device", "tpu"}), HasSubstr("--device: found 'tpu'"));
  EXPECT_THAT(ServeError({"m", "--balancing", "f"}), HasSubstr("unknown option '--balancing'"));
  EXPECT_THAT(ServeError({"m", "--ranks", "0"}), HasSubstr("--ranks: found '0'"));
}

TEST(Options, ContradictionsAreRefused) {
  EXPECT_THAT(ServeError({}), HasSubstr("MODEL"));
  EXPECT_THAT(ServeError({"m", "--tls-cert", "c"}), HasSubstr("expected both or none"));
  EXPECT_THAT(ServeError({"m", "--tls-client-ca", "c"}), HasSubstr("without --tls-cert"));
  EXPECT_THAT(ServeError({"m", "--served-model-name", "\xff"}), HasSubstr("UTF-8"));
  EXPECT_THAT(ServeError({"m", "--grpc", "7000"}), HasSubstr("--grpc: found '7000'"));
}

TEST(Options, GenerateTellsUnsetFromZero) {
  GenerateOptions options;
  ASSERT_TRUE(ReadGenerateOptions({"hello", "--temperature", "0", "--top-k", "-1", "--seed",
                                   "18446744073709551615", "--stop", "a", "--stop", "b"},
                                  options)
                  .ok());
  EXPECT_EQ(options.temperature, 0.0);
  EXPECT_EQ(options.top_k, -1);
  EXPECT_EQ(options.seed, ~uint64_t{0});
  EXPECT_EQ(options.stop.size(), 2u);
  EXPECT_FALSE(options.max_tokens.has_value());
}

TEST(Options, GenerateWantsAPromptButItMayBeEmpty) {
  GenerateOptions options;
  EXPECT_FALSE(ReadGenerateOptions({}, options).ok());
  EXPECT_TRUE(ReadGenerateOptions({""}, options).ok());
}

TEST(Options, PlanTakesAFormatThatItKnows) {
  PlanOptions options;
  ASSERT_TRUE(ReadPlanOptions({"m", "--ranks", "4", "--format", "sglang"}, options).ok());
  EXPECT_EQ(options.engine.ranks, 4);
  EXPECT_EQ(options.format, "sglang");
  EXPECT_FALSE(ReadPlanOptions({"m", "--format", "vllm"}, options).ok());
  EXPECT_FALSE(ReadPlanOptions({"--ranks", "4"}, options = {}).ok());
}

TEST(Options, TheDocumentationIsCurrent) {
  std::ifstream file(std::string(BALLAST_SOURCE_DIR) + "/docs/options.md");
  std::ostringstream page;
  page << file.rdbuf();
  EXPECT_EQ(page.str(), DescribeOptions()) << "run: ballast --help-markdown > docs/options.md";
}

}  // namespace
}  // namespace ballast
