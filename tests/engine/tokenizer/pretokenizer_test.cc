#include "engine/tokenizer/pretokenizer.h"

#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/tokenizer/tokenizer_files.h"

namespace ballast {
namespace {

using testing::ElementsAre;

std::vector<std::string> Pieces(const std::string& json, const std::string& text,
                                bool at_start = true) {
  JsonFile file;
  const auto pretokenizer = PreTokenizer::Parse(test::ParseField(&file, json));
  EXPECT_TRUE(pretokenizer.ok()) << pretokenizer.status();
  std::vector<std::string> pieces;
  PreTokenizer::Run run(*pretokenizer);
  EXPECT_TRUE(run.Split(text, at_start,
                        [&](std::string_view piece) {
                          pieces.emplace_back(piece);
                          return absl::OkStatus();
                        })
                  .ok());
  return pieces;
}

std::string SplitBy(const std::string& behavior, bool invert) {
  return R"({"type": "Split", "pattern": {"String": "-"}, "behavior": ")" + behavior +
         R"(", "invert": )" + (invert ? "true}" : "false}");
}

TEST(PreTokenizer, SplitsByEachBehavior) {
  const std::string text = "the-final--countdown";
  EXPECT_THAT(Pieces(SplitBy("Removed", false), text), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(Pieces(SplitBy("Isolated", false), text),
              ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(Pieces(SplitBy("MergedWithPrevious", false), text),
              ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(Pieces(SplitBy("MergedWithNext", false), text),
              ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(Pieces(SplitBy("Contiguous", false), text),
              ElementsAre("the", "-", "final", "--", "countdown"));
  EXPECT_THAT(Pieces(SplitBy("Removed", true), text), ElementsAre("-", "-", "-"));
}

TEST(PreTokenizer, LaterStepsSeeOnePieceAtATime) {
  // The look-ahead of the second split cannot see past the first one's pieces.
  const std::string json =
      R"({"type": "Sequence", "pretokenizers": [
           {"type": "Split", "pattern": {"Regex": "\\d"}, "behavior": "Isolated", "invert": false},
           {"type": "Split", "pattern": {"Regex": "\\s+(?!\\S)|\\s+"}, "behavior": "Isolated",
            "invert": false}]})";
  EXPECT_THAT(Pieces(json, "a  1"), ElementsAre("a", "  ", "1"));
  EXPECT_THAT(Pieces(json, "a  b"), ElementsAre("a", " ", " ", "b"));
}

TEST(PreTokenizer, MetaspacePrependsAsItsSchemeSays) {
  const auto metaspace = [](const std::string& scheme) {
    return R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": ")" + scheme + "\"}";
  };
  EXPECT_THAT(Pieces(metaspace("always"), "a b", false), ElementsAre("_a", "_b"));
  EXPECT_THAT(Pieces(metaspace("first"), "a b", true), ElementsAre("_a", "_b"));
  EXPECT_THAT(Pieces(metaspace("first"), "a b", false), ElementsAre("a", "_b"));
  EXPECT_THAT(Pieces(metaspace("never"), "a b", true), ElementsAre("a", "_b"));
}

TEST(PreTokenizer, OnlyTheFirstPieceIsAtTheStart) {
  const std::string json =
      R"({"type": "Sequence", "pretokenizers": [
           {"type": "Digits"},
           {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"}]})";
  EXPECT_THAT(Pieces(json, "a1b"), ElementsAre("_a", "1", "b"));
}

TEST(PreTokenizer, ByteLevelPutsASpaceInFrontWhenAsked) {
  const std::string json = R"({"type": "ByteLevel", "add_prefix_space": true})";
  EXPECT_THAT(Pieces(json, "it's 12"), ElementsAre(" it", "'s", " 12"));
  EXPECT_THAT(Pieces(json, " x"), ElementsAre(" x"));
}

}  // namespace
}  // namespace ballast
