#include "engine/join_facts.h"

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "gtest/gtest.h"

namespace ballast {
namespace {

const std::string kMini = BALLAST_SOURCE_DIR "/models/ballast-mini";
const std::string kGoldens = BALLAST_SOURCE_DIR "/tests/data/goldens/";

EngineOptions Options(const std::string& model) {
  EngineOptions options;
  options.model = model;
  options.kv_memory_bytes = 16 << 20;
  return options;
}

std::string Fact(const EngineOptions& options, const std::string& name) {
  const auto facts = ReadJoinFacts(options);
  EXPECT_EQ(facts.status(), absl::OkStatus());
  if (!facts.ok()) return "";
  const auto found = std::find_if(facts->begin(), facts->end(),
                                  [&](const JoinFact& fact) { return fact.name == name; });
  EXPECT_NE(found, facts->end()) << name;
  return found == facts->end() ? "" : found->value;
}

// A copy of the bundled model with one byte changed.
std::string Changed(const std::string& file, int64_t at) {
  std::string folder = testing::TempDir() + "ballast_facts_XXXXXX";
  EXPECT_NE(mkdtemp(folder.data()), nullptr);
  std::filesystem::copy(kMini, folder);
  std::fstream stream(folder + "/" + file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(at, at < 0 ? std::ios::end : std::ios::beg);
  const auto byte = static_cast<char>(stream.get() ^ 1);
  stream.seekp(at, at < 0 ? std::ios::end : std::ios::beg);
  stream.put(byte);
  return folder;
}

TEST(JoinFacts, ACheckpointIsItselfWhereverItLies) {
  std::string copy = testing::TempDir() + "ballast_facts_XXXXXX";
  ASSERT_NE(mkdtemp(copy.data()), nullptr);
  std::filesystem::copy(kMini, copy);
  EXPECT_EQ(Fact(Options(kMini), "checkpoint"), Fact(Options(copy), "checkpoint"));
  EXPECT_EQ(Fact(Options(kMini), "checkpoint").size(), 16u);
  std::filesystem::remove_all(copy);
}

TEST(JoinFacts, AnotherConfigOrOtherWeightsAreAnotherCheckpoint) {
  const std::string want = Fact(Options(kMini), "checkpoint");
  const std::string weights = Changed("model.safetensors", -1);
  EXPECT_NE(Fact(Options(weights), "checkpoint"), want);
  std::filesystem::remove_all(weights);
  std::string config = testing::TempDir() + "ballast_facts_XXXXXX";
  ASSERT_NE(mkdtemp(config.data()), nullptr);
  std::filesystem::copy(kMini, config);
  std::ofstream(config + "/config.json", std::ios::app) << "\n";
  EXPECT_NE(Fact(Options(config), "checkpoint"), want);
  std::filesystem::remove_all(config);
  EXPECT_NE(Fact(Options(kGoldens + "mixtral"), "checkpoint"), want);
}

TEST(JoinFacts, HowTensorsAreSpreadOverFilesDoesNotMatter) {
  const auto config_apart = [](const std::string& name) {
    const auto facts = ReadJoinFacts(Options(kGoldens + name));
    return facts.ok() ? facts->front().value : std::string(facts.status().message());
  };
  EXPECT_EQ(config_apart("qwen3_moe-norm"), config_apart("qwen3_moe-norm-sharded"));
}

TEST(JoinFacts, OptionsThatSizeAStepOrChangeItsArithmeticAreFacts) {
  const EngineOptions options = Options(kMini);
  EngineOptions other = options;
  other.compute = "exact";
  EXPECT_NE(Fact(options, "--compute"), Fact(other, "--compute"));
  other = options;
  other.step_tokens = 99;
  EXPECT_NE(Fact(options, "--step-tokens"), Fact(other, "--step-tokens"));
  other = options;
  other.kv_memory_bytes = 32 << 20;
  EXPECT_NE(Fact(options, "--kv-memory"), Fact(other, "--kv-memory"));
  other = options;
  other.kernels = "reference";
  EXPECT_EQ(Fact(other, "kernels"), "reference");
  EXPECT_EQ(Fact(other, "packing").size(), 16u);
}

}  // namespace
}  // namespace ballast
