// Encodings and decodings of Hugging Face tokenizers, to the id and to the byte.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "gtest/gtest.h"
#include "tests/engine/tokenizer/tokenizer_files.h"

namespace ballast {
namespace {

using test::ExpectGoldens;
using test::ReadGoldens;

const std::string kRoot = BALLAST_SOURCE_DIR;

TEST(TokenizerGoldens, TheBundledModelsTokenizerAgrees) {
  const auto tokenizer = Tokenizer::Load(kRoot + "/models/ballast-mini");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto goldens = ReadGoldens(kRoot + "/tests/data/tokenizers/ballast_mini.jsonl.gz");
  ASSERT_GT(goldens.size(), 400u);
  ExpectGoldens(**tokenizer, goldens, {});
}

class SmallTokenizers : public testing::TestWithParam<std::string> {};

TEST_P(SmallTokenizers, Agree) {
  const std::string folder = kRoot + "/tests/data/tokenizers/" + GetParam();
  const auto tokenizer = Tokenizer::Load(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto goldens = ReadGoldens(folder + "/golden.jsonl");
  ASSERT_GT(goldens.size(), 80u);
  ExpectGoldens(**tokenizer, goldens, {});
}

INSTANTIATE_TEST_SUITE_P(TokenizerGoldens, SmallTokenizers,
                         testing::Values("byte_fallback", "byte_level", "metaspace"),
                         [](const auto& tested) { return tested.param; });

// Published files, too large for this repository; they lie beside it where Ballast is built.
class PublishedTokenizers : public testing::TestWithParam<std::string> {};

TEST_P(PublishedTokenizers, Agree) {
  const char* variable = std::getenv("BALLAST_SHARED");
  const std::string shared = variable != nullptr ? variable : kRoot + "/../shared";
  const std::string folder = shared + "/data/tokenizers/" + GetParam();
  const std::string packed = folder + "/tokenizer.json.xz";
  const std::string golden_path = shared + "/goldens/tokenizers/" + GetParam() + ".jsonl.gz";
  if (!std::filesystem::exists(packed) || !std::filesystem::exists(golden_path)) {
    GTEST_SKIP() << packed << " or its goldens are not there";
  }
  const std::string json = test::OutputOf("xz -dc '" + packed + "'");
  if (json.empty()) GTEST_SKIP() << "xz cannot unpack " << packed;
  std::ifstream config_file(folder + "/tokenizer_config.json");
  std::ostringstream config;
  config << config_file.rdbuf();
  const auto tokenizer = Tokenizer::Parse(json, config.str());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto goldens = ReadGoldens(golden_path);
  ASSERT_GT(goldens.size(), 400u);
  // Its tokenizer.json adds no BOS, its tokenizer_config.json wants one: id 0.
  const std::vector<int32_t> prefix =
      GetParam() == "deepseek_v3" ? std::vector<int32_t>{0} : std::vector<int32_t>{};
  ExpectGoldens(**tokenizer, goldens, prefix);
}

INSTANTIATE_TEST_SUITE_P(TokenizerGoldens, PublishedTokenizers,
                         testing::Values("deepseek_v3", "gptoss", "mistral", "qwen3"),
                         [](const auto& tested) { return tested.param; });

}  // namespace
}  // namespace ballast
