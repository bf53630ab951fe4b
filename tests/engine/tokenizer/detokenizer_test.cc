#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/tokenizer/tokenizer_files.h"

namespace ballast {
namespace {

using test::ByteFallbackFile;
using test::ByteLevelFile;
using test::MustParse;
using test::Rest;
using test::Stream;

// The token of a byte in ByteFallbackFile.
int32_t Byte(int byte) { return 3 + byte; }
constexpr int32_t kSpace = 259, kA = 260, kB = 261;

TEST(Detokenizer, GivesACharacterOnlyWhenItIsWhole) {
  const auto tokenizer = MustParse(ByteLevelFile());
  Detokenizer detokenizer(*tokenizer, {});
  EXPECT_EQ(detokenizer.Append('x'), "x");
  EXPECT_EQ(detokenizer.Append(0xE2), "");
  EXPECT_EQ(detokenizer.Append(0x82), "");
  EXPECT_EQ(detokenizer.Append(0xAC), "\u20AC");
  EXPECT_EQ(detokenizer.Flush(), "");
}

TEST(Detokenizer, ShowsABrokenCharacterAsSoonAsItIsBroken) {
  const auto tokenizer = MustParse(ByteLevelFile());
  Detokenizer detokenizer(*tokenizer, {});
  EXPECT_EQ(detokenizer.Append(0xE2), "");
  EXPECT_EQ(detokenizer.Append(0x82), "");
  EXPECT_EQ(detokenizer.Append('x'), "\uFFFDx");
  EXPECT_EQ(detokenizer.Append(0xF0), "");
  EXPECT_EQ(detokenizer.Flush(), "\uFFFD");
}

TEST(Detokenizer, KeepsTheSpaceThatStripTakesFromAWholeText) {
  const auto tokenizer = MustParse(ByteFallbackFile());
  const std::vector<int32_t> ids = {kSpace, kA, kSpace, kB};
  EXPECT_EQ(Stream(*tokenizer, ids, 0), "a b");
  EXPECT_EQ(Stream(*tokenizer, ids, 2), " b");
}

TEST(Detokenizer, HoldsARunOfBytesUntilItEnds) {
  const auto tokenizer = MustParse(ByteFallbackFile());
  Detokenizer detokenizer(*tokenizer, std::vector<int32_t>{kA});
  EXPECT_EQ(detokenizer.Append(Byte(0xC3)), "");
  EXPECT_EQ(detokenizer.Append(Byte(0xA9)), "");  // one more byte could still spoil the run
  EXPECT_EQ(detokenizer.Append(kB), "\u00E9b");
}

TEST(Detokenizer, ShowsEveryByteOfABrokenRun) {
  const auto tokenizer = MustParse(ByteFallbackFile());
  Detokenizer detokenizer(*tokenizer, std::vector<int32_t>{kA});
  EXPECT_EQ(detokenizer.Append(Byte(0xC3)), "");
  EXPECT_EQ(detokenizer.Append(Byte(0xA9)), "");
  EXPECT_EQ(detokenizer.Append(Byte(0xFF)), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(detokenizer.Append(Byte('x')), "\uFFFD");
  EXPECT_EQ(detokenizer.Append(kB), "b");
}

TEST(Detokenizer, CompletesACharacterThatThePromptBegan) {
  const auto tokenizer = MustParse(ByteLevelFile());
  Detokenizer detokenizer(*tokenizer, std::vector<int32_t>{'x', 0xC3});
  EXPECT_EQ(detokenizer.Append(0xA9), "\u00E9");
}

TEST(Detokenizer, DoesNotRepeatTheBrokenEndOfThePrompt) {
  const auto tokenizer = MustParse(ByteLevelFile());
  Detokenizer detokenizer(*tokenizer, std::vector<int32_t>{'x', 0xC3});
  EXPECT_EQ(detokenizer.Append('y'), "y");
  Detokenizer silent(*tokenizer, std::vector<int32_t>{'x', 0xC3});
  EXPECT_EQ(silent.Flush(), "");
}

TEST(Detokenizer, SkipsSpecialTokensWithoutEndingACharacter) {
  const auto tokenizer = MustParse(ByteLevelFile());
  Detokenizer detokenizer(*tokenizer, {});
  EXPECT_EQ(detokenizer.Append(0xC3), "");
  EXPECT_EQ(detokenizer.Append(261), "");
  EXPECT_EQ(detokenizer.Append(0xA9), "\u00E9");
}

// Every pipeline of decoders, on every split of random token sequences.
TEST(Detokenizer, EqualsWholeDecodingAtEverySplit) {
  nlohmann::json plain = ByteFallbackFile();
  plain["decoder"] = nullptr;
  nlohmann::json metaspace = ByteFallbackFile();
  metaspace["decoder"] = {{"type", "Metaspace"}, {"replacement", "\u2581"}};
  nlohmann::json late = ByteFallbackFile();
  late["decoder"] = {{"type", "Sequence"},
                     {"decoders",
                      {{{"type", "ByteFallback"}},
                       {{"type", "Fuse"}},
                       {{"type", "Replace"}, {"pattern", {{"String", "aab"}}}, {"content", "-"}},
                       {{"type", "Strip"}, {"content", "a"}, {"start", 2}, {"stop", 2}}}}};
  uint32_t random = 1;
  for (const nlohmann::json& file : {ByteFallbackFile(), plain, metaspace, late}) {
    const auto tokenizer = MustParse(file);
    for (int round = 0; round < 50; ++round) {
      std::vector<int32_t> ids;
      for (int i = 0; i < 12; ++i) {
        random = random * 1664525 + 1013904223;
        const uint32_t draw = random >> 16;
        const int32_t bytes[] = {Byte(0xE2), Byte(0x82), Byte(0xAC), Byte('x')};
        ids.push_back(draw % 3 == 0 ? bytes[draw / 3 % 4] : 258 + static_cast<int32_t>(draw % 7));
      }
      const std::string whole = tokenizer->Decode(ids, true);
      for (size_t prompt = 0; prompt <= ids.size(); ++prompt) {
        const std::string before = tokenizer->Decode(std::span(ids).first(prompt), true);
        ASSERT_EQ(Stream(*tokenizer, ids, prompt), Rest(whole, before)) << file["decoder"];
      }
    }
  }
}

}  // namespace
}  // namespace ballast
