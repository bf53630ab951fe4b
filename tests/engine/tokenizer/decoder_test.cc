#include "engine/tokenizer/decoder.h"

#include "gtest/gtest.h"
#include "tests/engine/tokenizer/tokenizer_files.h"

namespace ballast {
namespace {

// No decoder where `json` is empty.
std::string Decode(const std::string& json, const std::vector<std::string>& tokens) {
  JsonFile file;
  const auto field = json.empty() ? std::nullopt : std::optional(test::ParseField(&file, json));
  const auto decoder = Decoder::Parse(field);
  EXPECT_TRUE(decoder.ok()) << decoder.status();
  std::string text;
  Decoder::State state = decoder->Begin();
  for (const std::string& token : tokens) decoder->Push(token, &state, &text);
  decoder->Finish(&state, &text);
  return text;
}

std::string Sequence(const std::string& steps) {
  return R"({"type": "Sequence", "decoders": [)" + steps + "]}";
}

TEST(Decoder, JoinsBySpacesWithoutADecoder) {
  EXPECT_EQ(Decode("", {"a", "b", "c"}), "a b c");
  EXPECT_EQ(Decode(Sequence(""), {"a", "b", "c"}), "abc");
}

TEST(Decoder, ByteLevelTakesAForeignTokenAsItIs) {
  EXPECT_EQ(Decode(R"({"type": "ByteLevel"})", {"\u00C3", "\u00A9", "\u0120a", "\u2581\u0120"}),
            "\u00E9 a\u2581\u0120");
}

TEST(Decoder, ReplaceBehindFuseReachesAcrossTokens) {
  const std::string steps =
      R"({"type": "Fuse"}, {"type": "Replace", "pattern": {"String": "aab"}, "content": "-"})";
  EXPECT_EQ(Decode(Sequence(steps), {"a", "a", "b", "c"}), "-c");
  EXPECT_EQ(Decode(Sequence(steps), {"aa", "ab", "a", "a"}), "a-aa");
}

TEST(Decoder, ReplaceBeforeFuseSeesOneToken) {
  const std::string steps =
      R"({"type": "Replace", "pattern": {"String": "ab"}, "content": "-"}, {"type": "Fuse"})";
  EXPECT_EQ(Decode(Sequence(steps), {"a", "b", "ab"}), "ab-");
  const std::string regex = R"({"type": "Replace", "pattern": {"Regex": "^."}, "content": "-"})";
  EXPECT_EQ(Decode(Sequence(regex), {"ab", "cd"}), "-b-d");
}

TEST(Decoder, StripCutsEachTokenOrTheWholeText) {
  const std::string strip = R"({"type": "Strip", "content": "x", "start": 1, "stop": 2})";
  EXPECT_EQ(Decode(Sequence(strip), {"xxaxxx", "xb"}), "xaxb");
  const std::string fused = R"({"type": "Fuse"}, )" + strip;
  EXPECT_EQ(Decode(Sequence(fused), {"xxa", "xx", "x"}), "xax");
  EXPECT_EQ(Decode(Sequence(fused), {"x", "x", "x", "a", "x", "b"}), "xxaxb");
}

TEST(Decoder, MetaspaceDropsOnlyTheFirstTokensSpace) {
  const std::string json = R"({"type": "Metaspace", "replacement": "_"})";
  EXPECT_EQ(Decode(json, {"_a", "_b"}), "a b");
  EXPECT_EQ(Decode(R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "never"})",
                   {"_a", "_b"}),
            " a b");
}

TEST(Decoder, RefusesWhatItCannotStream) {
  for (const char* steps :
       {R"({"type": "Fuse"}, {"type": "ByteLevel"})",
        R"({"type": "Fuse"}, {"type": "ByteFallback"})",
        R"({"type": "Fuse"}, {"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""})"}) {
    JsonFile file;
    EXPECT_FALSE(Decoder::Parse(test::ParseField(&file, Sequence(steps))).ok()) << steps;
  }
}

}  // namespace
}  // namespace ballast
