#include "engine/tokenizer/utf8.h"

#include "gtest/gtest.h"

namespace ballast {
namespace {

std::string Repair(std::string_view bytes) {
  std::string out;
  Utf8Repair repair;
  for (size_t i = 0; i < bytes.size(); ++i) repair.Push(bytes.substr(i, 1), &out);
  repair.Finish(&out);
  return out;
}

TEST(Utf8, CharactersSurviveEncodingAndDecoding) {
  for (char32_t character = 0; character <= 0x10FFFF; ++character) {
    if (character >= 0xD800 && character <= 0xDFFF) continue;
    std::string text;
    AppendUtf8(character, &text);
    ASSERT_EQ(Utf8Length(text[0]), text.size());
    ASSERT_EQ(Utf8At(text, 0), character);
    ASSERT_EQ(CheckUtf8Character(text), Utf8Check::kWhole);
    ASSERT_EQ(CheckUtf8Character(std::string_view(text).substr(0, text.size() - 1)),
              Utf8Check::kIncomplete);
  }
}

TEST(Utf8, RepairGivesOneMarkForEachMaximalPart) {
  EXPECT_EQ(Repair("a\xF0\x9F\x99\x82z"), "a\U0001F642z");
  EXPECT_EQ(Repair("\xF0\x9F\x99z"), "\uFFFDz");
  EXPECT_EQ(Repair("\xF0\x9F\xF0\x9F\x99\x82"), "\uFFFD\U0001F642");
  EXPECT_EQ(Repair("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");  // a surrogate
  EXPECT_EQ(Repair("\xC0\x80"), "\uFFFD\uFFFD");            // overlong
  EXPECT_EQ(Repair("\xE2\x82"), "\uFFFD");
  EXPECT_EQ(Repair("\x80\x80"), "\uFFFD\uFFFD");
}

TEST(Utf8, TheByteAlphabetIsReversible) {
  for (int byte = 0; byte < 256; ++byte) {
    std::string back;
    ASSERT_TRUE(FromByteAlphabet(ByteAlphabet()[byte], &back));
    ASSERT_EQ(back, std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(ByteAlphabet()[' '], "\u0120");
  EXPECT_EQ(ByteAlphabet()['\n'], "\u010A");
  std::string unused;
  EXPECT_FALSE(FromByteAlphabet("\uFF5C", &unused));
}

}  // namespace
}  // namespace ballast
