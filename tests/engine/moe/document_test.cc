#include "engine/moe/document.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

DocumentNode Parsed(const std::string& text) {
  auto node = ParseDocument(text, "f");
  EXPECT_TRUE(node.ok()) << node.status();
  return node.ok() ? *std::move(node) : DocumentNode{};
}

std::string Message(const std::string& text) {
  return std::string(ParseDocument(text, "f").status().message());
}

TEST(Document, ReadsJsonAndYamlAlike) {
  const char* const texts[] = {R"({"a": [1, 2.5, -3], "b": {"c": 7}, "d": [[1], [2]], "e": null})",
                               "a: [1, 2.5, -3]\nb: {c: 7}\nd:\n  - [1]\n  - - 2\ne:\n",
                               "{a: [1, 2.5, -3], b: {c: 7}, d: [[1], [2]], e: ~}"};
  for (const char* text : texts) {
    const DocumentNode root = Parsed(text);
    EXPECT_THAT(root.keys, ElementsAre("a", "b", "d", "e"));
    ASSERT_NE(root.Find("a"), nullptr);
    EXPECT_TRUE(root.Find("a")->IsNumbers());
    EXPECT_THAT(root.Find("a")->numbers, ElementsAre(1, 2.5, -3));
    ASSERT_NE(root.Find("b")->Find("c"), nullptr);
    EXPECT_EQ(Describe(*root.Find("b")->Find("c")), "7");
    EXPECT_TRUE(root.Find("d")->IsItems());
    EXPECT_THAT(root.Find("d")->items[1].numbers, ElementsAre(2));
    EXPECT_EQ(Describe(*root.Find("e")), "nothing");
    EXPECT_EQ(root.Find("x"), nullptr);
  }
}

TEST(Document, KeepsTheFirstOddValueOfAListOfNumbers) {
  EXPECT_EQ(Parsed("[1, x, y]").odd, "\"x\"");
  EXPECT_EQ(Parsed("[1, '2']").odd, "\"2\"");
  EXPECT_EQ(Parsed("[1, .nan]").odd, "\".nan\"");
  EXPECT_EQ(Parsed(R"({"a": [1, NaN]})").Find("a")->odd, "\"NaN\"");
  EXPECT_EQ(Parsed(R"({"a": [null]})").Find("a")->odd, "\"null\"");
  EXPECT_EQ(Parsed(R"({"a": [true]})").Find("a")->odd, "\"true\"");
  const DocumentNode mixed = Parsed("[1, [2]]");
  EXPECT_FALSE(mixed.IsNumbers());
  EXPECT_FALSE(mixed.IsItems());
}

TEST(Document, SaysWhereItIsNoYaml) {
  EXPECT_THAT(Message("a: [1, 2"), HasSubstr("f: not YAML at line "));
  EXPECT_THAT(Message("a: 1\nb: &x 2\nc: *x\n"), HasSubstr("f:3: found an alias"));
  EXPECT_THAT(Message("a: 1\n---\nb: 1\n"), HasSubstr("more than one YAML document"));
  EXPECT_THAT(Message("[1, 2]: 3\n"), HasSubstr("a key that is a list or a map"));
  EXPECT_THAT(Message("a: 1\nb: 1\na: 2\n"), HasSubstr("the key a twice"));
}

TEST(Document, SaysWhereItIsNoJson) {
  EXPECT_THAT(Message(R"({"a": [1, 2})"), HasSubstr("f: not JSON at byte 12"));
  EXPECT_THAT(Message(R"({"a": 1, "a": 2})"), HasSubstr("the key a twice"));
}

TEST(Document, EverythingIsBounded) {
  EXPECT_THAT(Message(std::string(20, '[') + std::string(20, ']')), HasSubstr("in each other"));
  EXPECT_THAT(Message("{\"a\": " + std::string(20, '[') + std::string(20, ']') + "}"),
              HasSubstr("in each other"));
  // Far deeper than any stack of calls.
  EXPECT_FALSE(ParseDocument("{\"a\": " + std::string(1000000, '['), "f").ok());
  EXPECT_FALSE(ParseDocument(std::string(100000, '['), "f").ok());
  EXPECT_THAT(Message("a: " + std::string(300, 'x')), HasSubstr("a text of 300 bytes"));
  EXPECT_THAT(Message(std::string(kMaxYamlBytes + 1, ' ')), HasSubstr("at most 4194304 of YAML"));
  std::string lists = R"({"a": [)";
  for (size_t i = 0; i < kMaxDocumentNodes; ++i) lists += "[],";
  EXPECT_THAT(Message(lists + "[]]}"), HasSubstr("more than 1048576"));
}

}  // namespace
}  // namespace ballast
