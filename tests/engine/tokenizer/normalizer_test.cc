#include "engine/tokenizer/normalizer.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/tokenizer/tokenizer_files.h"

namespace ballast {
namespace {

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

}  // namespace
}  // namespace ballast
