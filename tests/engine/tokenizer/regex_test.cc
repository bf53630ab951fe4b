#include "engine/tokenizer/regex.h"

#include <utility>
#include <vector>

#include "engine/tokenizer/regex_syntax.h"
#include "engine/tokenizer/utf8.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> Matches(std::string_view pattern, std::string_view text) {
  const auto regex = Regex::Compile(pattern);
  EXPECT_TRUE(regex.ok()) << regex.status();
  std::vector<std::string> found;
  RegexSearch search(*regex);
  search.Start(text);
  for (size_t begin, end; search.Next(&begin, &end);) {
    found.emplace_back(text.substr(begin, end - begin));
  }
  EXPECT_TRUE(search.status().ok());
  return found;
}

bool MatchesCharacter(std::string_view pattern, char32_t character) {
  std::string text;
  AppendUtf8(character, &text);
  return !Matches(pattern, text).empty();
}

TEST(Regex, SpaceIsUnicodesWhiteSpaceEverywhere) {
  for (const char* pattern : {"\\s", "[\\s]", "[^\\S]", "[^[^\\s]]"}) {
    for (char32_t c : {0x09, 0x0D, 0x20, 0x85, 0xA0, 0x1680, 0x200A, 0x2028, 0x202F, 0x3000}) {
      EXPECT_TRUE(MatchesCharacter(pattern, c)) << pattern << " " << uint32_t{c};
    }
    // PCRE2 alone would take U+180E.
    for (char32_t c : {0x180E, 0x200B, 0x1C, 0x61, 0xFEFF}) {
      EXPECT_FALSE(MatchesCharacter(pattern, c)) << pattern << " " << uint32_t{c};
    }
  }
}

TEST(Regex, PropertiesHaveCharactersOfUnicode16) {
  EXPECT_TRUE(MatchesCharacter("\\p{S}", 0x1FAAF));
  EXPECT_TRUE(MatchesCharacter("[^\\P{So}]", 0x1FAAF));
  EXPECT_FALSE(MatchesCharacter("\\P{S}", 0x1FAAF));
  EXPECT_TRUE(MatchesCharacter("\\p{Han}", 0x31350));
  EXPECT_TRUE(MatchesCharacter("\\w", 0x31350));
}

TEST(Regex, ScriptsMeanTheScriptAlone) {
  // The ideographic full stop is used with Han, but its script is Common.
  EXPECT_FALSE(MatchesCharacter("\\p{Han}", 0x3002));
  EXPECT_TRUE(MatchesCharacter("\\p{Han}", 0x4E2D));
  EXPECT_TRUE(MatchesCharacter("\\p{^Han}", 0x3002));
}

TEST(Regex, ReadsRubysClassesWithinClasses) {
  EXPECT_THAT(Matches("[a-d&&[^bc]]+", "abcdad"), ElementsAre("a", "dad"));
  EXPECT_THAT(Matches("[x[yz]]+", "axyzb"), ElementsAre("xyz"));
  EXPECT_THAT(Matches("[^x[yz]]+", "axyzb"), ElementsAre("a", "b"));
  EXPECT_THAT(Matches("[\\W\\d]+", "ab1-2c"), ElementsAre("1-2"));
}

TEST(Regex, ReadsRubysEscapesAndOptions) {
  EXPECT_THAT(Matches("\\h+", "xaF9g"), ElementsAre("aF9"));
  EXPECT_THAT(Matches("\\u0061+", "baab"), ElementsAre("aa"));
  EXPECT_THAT(Matches("(?m).", "\n"), ElementsAre("\n"));
  EXPECT_THAT(Matches("(?-m:.)", "\n"), IsEmpty());
  EXPECT_THAT(Matches("^a$", "b\na\nb"), ElementsAre("a"));
  EXPECT_THAT(Matches("ab{,2}c", "abbc ac abbbc"), ElementsAre("abbc", "ac"));
}

TEST(Regex, EmptyMatchesDoNotFollowAMatch) {
  const auto regex = Regex::Compile("a*");
  RegexSearch search(*regex);
  search.Start("baab");
  std::vector<std::pair<size_t, size_t>> spans;
  for (size_t begin, end; search.Next(&begin, &end);) spans.emplace_back(begin, end);
  EXPECT_THAT(spans, ElementsAre(std::pair(0, 0), std::pair(1, 3), std::pair(4, 4)));
}

TEST(Regex, LookaroundEndsWithTheText) {
  EXPECT_THAT(Matches("\\s+(?!\\S)", std::string_view("a  b").substr(0, 3)), ElementsAre("  "));
  EXPECT_THAT(Matches("(?<=a)b", std::string_view("ab").substr(1)), IsEmpty());
}

TEST(Regex, ALiteralHasNoSyntax) {
  const auto regex = Regex::Literal("a.(");
  ASSERT_TRUE(regex.ok()) << regex.status();
  RegexSearch search(*regex);
  size_t begin, end;
  search.Start("axa.(");
  ASSERT_TRUE(search.Next(&begin, &end));
  EXPECT_EQ(begin, 2u);
}

TEST(Regex, RefusesWhatItCannotMatch) {
  for (const char* pattern : {"(", "[a", "[a&&]", "a**?{", "\\p{Nonsense}", "\\pL", "(?<=a*)",
                              "[[:alpha:]]", "((((((((((a{1,99}){1,99}){1,99}"}) {
    EXPECT_FALSE(Regex::Compile(pattern).ok()) << pattern;
  }
  EXPECT_FALSE(Regex::Compile(std::string(100000, 'a')).ok());
  EXPECT_FALSE(Regex::Compile(std::string(200, '[') + "a" + std::string(200, ']')).ok());
}

TEST(Regex, AnExponentialSearchEndsWithAnError) {
  const auto regex = Regex::Compile("(x+x+)+[yz]");
  RegexSearch search(*regex);
  const std::string text(2000, 'x');
  search.Start(text);
  size_t begin, end;
  EXPECT_FALSE(search.Next(&begin, &end));
  EXPECT_THAT(std::string(search.status().message()), HasSubstr("matching a text of 2000 bytes"));
}

TEST(Regex, ALongRunIsNotTakenForExponential) {
  const std::string text = std::string(3'000'000, ' ') + "x";
  const auto regex = Regex::Compile("\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+");
  RegexSearch search(*regex);
  search.Start(text);
  size_t begin, end;
  ASSERT_TRUE(search.Next(&begin, &end)) << search.status();
  EXPECT_EQ(end, text.size() - 2);
}

TEST(Regex, SyntaxLeavesPlainPatternsAlone) {
  EXPECT_EQ(*ToPcre2Syntax("a(?:b|c)*[^\\r\\n]{1,3}"), "a(?:b|c)*[^\\r\\n]{1,3}");
}

}  // namespace
}  // namespace ballast
