// Normaliser, pre-tokenizer, added tokens, each alone.
#include <vector>

#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/pretokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/tokenizer/tokenizer_files.h"

namespace ballast {
namespace {

using testing::ElementsAre;

std::string Normalize(const std::string& json, std::string text) {
  JsonFile file;
  const auto normalizer = Normalizer::Parse(test::ParseField(&file, json));
  EXPECT_TRUE(normalizer.ok()) << normalizer.status();
  EXPECT_TRUE(normalizer->Apply(&text).ok());
  return text;
}

TEST(Normalizer, ComposesAndOrdersMarks) {
  EXPECT_EQ(Normalize(R"({"type": "NFC"})", "e\u0301"), "\u00E9");
  EXPECT_EQ(Normalize(R"({"type": "NFC"})", "a\u0301\u0323"), "\u1EA1\u0301");
  EXPECT_EQ(Normalize(R"({"type": "NFC"})", "\u1112\u1161\u11AB"), "\uD55C");
  EXPECT_EQ(Normalize(R"({"type": "NFD"})", "\u00E9"), "e\u0301");
  EXPECT_EQ(Normalize(R"({"type": "NFKC"})", "\uFB01\u00BD"), "fi1\u20442");
  EXPECT_EQ(Normalize(R"({"type": "NFKD"})", "\uFB01\u00E9"), "fie\u0301");
}

TEST(Normalizer, LeavesMarksAloneThatTheReferenceDoesNotKnow) {
  EXPECT_EQ(Normalize(R"({"type": "NFC"})", "a\u1DF8\u0301\u0323"), "a\u1DF8\u0323\u0301");
}

TEST(Normalizer, OrdersAHugeRunOfMarksInTime) {
  std::string text = "a";
  for (int i = 0; i < 200'000; ++i) text += "\u0301\u0323";
  const std::string composed = Normalize(R"({"type": "NFC"})", text);
  EXPECT_EQ(composed.substr(0, 5), "\u1EA1\u0323");
}

TEST(Normalizer, DoesTheOtherKinds) {
  EXPECT_EQ(Normalize(R"({"type": "Lowercase"})", "ÀΣ\u0130"), "àσi\u0307");
  EXPECT_EQ(Normalize(R"({"type": "StripAccents"})", "e\u0301x"), "ex");
  EXPECT_EQ(Normalize(R"({"type": "Strip"})", "\u3000 a b\n"), "a b");
  EXPECT_EQ(Normalize(R"({"type": "Strip", "strip_right": false})", " a "), "a ");
  EXPECT_EQ(Normalize(R"({"type": "Prepend", "prepend": "_"})", "a"), "_a");
  EXPECT_EQ(Normalize(R"({"type": "Prepend", "prepend": "_"})", ""), "");
  EXPECT_EQ(Normalize(R"({"type": "ByteLevel"})", " \u00E9"), "\u0120\u00C3\u00A9");
  EXPECT_EQ(Normalize(R"({"type":"Replace","pattern":{"Regex":"a+"},"content":"b"})", "xaay"),
            "xby");
}

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

TEST(PreTokenizer, ByteLevelPutsASpaceInFrontWhenAsked) {
  const std::string json = R"({"type": "ByteLevel", "add_prefix_space": true})";
  EXPECT_THAT(Pieces(json, "it's 12"), ElementsAre(" it", "'s", " 12"));
  EXPECT_THAT(Pieces(json, " x"), ElementsAre(" x"));
}

AddedToken Token(int32_t id, const std::string& content) {
  AddedToken token;
  token.id = id;
  token.content = token.pattern = content;
  return token;
}

std::vector<std::string> Split(std::vector<AddedToken> tokens, std::string_view text) {
  std::vector<AddedTokenSplitter::Piece> pieces;
  AddedTokenSplitter(std::move(tokens)).Split(text, &pieces);
  std::vector<std::string> shown;
  for (const auto& piece : pieces) {
    shown.push_back(piece.id < 0 ? std::string(piece.text)
                                 : std::to_string(piece.id) + "=" + std::string(piece.text));
  }
  return shown;
}

TEST(AddedTokens, TheLeftmostThenTheLongestIsFound) {
  EXPECT_THAT(Split({Token(1, "<a"), Token(2, "<a>"), Token(3, "a>b")}, "x<a>b<a<a>"),
              ElementsAre("x", "2=<a>", "b", "1=<a", "2=<a>"));
}

TEST(AddedTokens, StripTakesTheSpaceBeside) {
  AddedToken token = Token(1, "<m>");
  token.lstrip = token.rstrip = true;
  EXPECT_THAT(Split({token}, "a \n<m>\u3000b <m> <m>"),
              ElementsAre("a", "1= \n<m>\u3000", "b", "1= <m> ", "1=<m>"));
}

TEST(AddedTokens, ASingleWordStandsAlone) {
  AddedToken token = Token(1, "word");
  token.single_word = true;
  EXPECT_THAT(Split({token}, "word sword word\u0301 (word) word_"),
              ElementsAre("1=word", " sword word\u0301 (", "1=word", ") word_"));
}

}  // namespace
}  // namespace ballast
