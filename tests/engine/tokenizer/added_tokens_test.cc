#include "engine/tokenizer/added_tokens.h"

#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::ElementsAre;

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
