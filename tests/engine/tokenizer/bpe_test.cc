#include "engine/tokenizer/bpe.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/tokenizer/tokenizer_files.h"

namespace ballast {
namespace {

using testing::ElementsAre;

std::vector<int32_t> Encode(const std::string& model, const std::string& text) {
  JsonFile file;
  const auto bpe = Bpe::Parse(test::ParseField(&file, model), false);
  EXPECT_TRUE(bpe.ok()) << bpe.status();
  std::vector<int32_t> ids;
  Bpe::Scratch scratch;
  EXPECT_TRUE((*bpe)->Encode(text, &ids, &scratch).ok());
  return ids;
}

TEST(Bpe, MergesTheLowestRankThenTheLeftmost) {
  const std::string model =
      R"({"vocab": {"a": 0, "b": 1, "c": 2, "bc": 3, "ab": 4, "aa": 5},
          "merges": ["b c", "a b", "a a"]})";
  EXPECT_THAT(Encode(model, "abc"), ElementsAre(0, 3));
  EXPECT_THAT(Encode(model, "aab"), ElementsAre(0, 4));
  EXPECT_THAT(Encode(model, "aaa"), ElementsAre(5, 0));
}

TEST(Bpe, ScanAndHeapAgree) {
  MergeTable table;  // 0 and 1 are symbols; every pair of ids below 30 merges, ranks scattered
  int32_t next = 2;
  for (int32_t a = 0; a < 30; ++a) {
    for (int32_t b = 0; b < 30; ++b) {
      const auto rank = static_cast<uint32_t>((a * 7919 + b * 104729) % 1009);
      table.Add(a, b, {rank, next++});
    }
  }
  MergeTable::Scratch scratch;
  uint32_t random = 7;
  for (int round = 0; round < 200; ++round) {
    std::vector<int32_t> shorter;
    for (int i = 0; i < 30; ++i) {
      random = random * 1664525 + 1013904223;
      shorter.push_back(static_cast<int32_t>(random >> 30 & 1));
    }
    // The same, made long by symbols that merge with nothing.
    std::vector<int32_t> longer = shorter;
    longer.insert(longer.end(), 100, 1'000'000);
    table.Apply(&shorter, &scratch);
    table.Apply(&longer, &scratch);
    longer.resize(longer.size() - 100);
    ASSERT_EQ(shorter, longer);
  }
}

TEST(Bpe, UnknownCharactersFuseOnlyWhenAsked) {
  const std::string vocab = R"("unk_token": "?", "vocab": {"?": 0, "a": 1, "aa": 2},
                               "merges": ["a a"])";
  EXPECT_THAT(Encode("{" + vocab + "}", "axya"), ElementsAre(1, 0, 0, 1));
  EXPECT_THAT(Encode("{\"fuse_unk\": true, " + vocab + "}", "axya"), ElementsAre(1, 0, 1));
}

TEST(Bpe, WithoutUnknownTokenACharacterVanishesAndItsNeighboursMerge) {
  EXPECT_THAT(Encode(R"({"vocab": {"a": 1, "aa": 2}, "merges": ["a a"]})", "axa"), ElementsAre(2));
}

TEST(Bpe, AMissingUnknownTokenIsAnErrorOnlyWhenNeeded) {
  JsonFile file;
  const auto bpe = Bpe::Parse(
      test::ParseField(&file, R"({"unk_token": "?", "vocab": {"a": 1}, "merges": []})"), false);
  ASSERT_TRUE(bpe.ok()) << bpe.status();
  std::vector<int32_t> ids;
  Bpe::Scratch scratch;
  EXPECT_TRUE((*bpe)->Encode("aa", &ids, &scratch).ok());
  EXPECT_THAT(std::string((*bpe)->Encode("x", &ids, &scratch).message()),
              testing::HasSubstr("tokenizer.json: field model.unk_token is \"?\""));
}

// A character's bytes need all of their tokens; else the character is unknown.
TEST(Bpe, AHalfByteFallbackIsNone) {
  EXPECT_THAT(Encode(R"({"byte_fallback": true, "unk_token": "?", "merges": [],
                         "vocab": {"?": 0, "<0xC3>": 1, "<0xA9>": 2}})",
                     "\u00E9\u00E8"),
              ElementsAre(1, 2, 0));
}

TEST(Bpe, MergesOfByteTokensReachAcrossCharacters) {
  EXPECT_THAT(Encode(R"({"byte_fallback": true, "merges": ["<0xC3> <0xA9>"],
                         "vocab": {"a": 0, "<0xC3>": 1, "<0xA9>": 2, "<0xC3><0xA9>": 3}})",
                     "a\u00E9"),
              ElementsAre(0, 3));
}

TEST(Bpe, AMillionCharactersMergeInTime) {
  const std::string model =
      R"({"vocab": {"a": 0, "aa": 1, "aaaa": 2}, "merges": ["a a", "aa aa"]})";
  EXPECT_EQ(Encode(model, std::string(1'000'000, 'a')).size(), 250'000u);
}

}  // namespace
}  // namespace ballast
