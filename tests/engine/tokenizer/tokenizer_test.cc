#include "engine/tokenizer/tokenizer.h"

#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/tokenizer/tokenizer_files.h"

namespace ballast {
namespace {

using nlohmann::json;
using test::ByteFallbackFile;
using test::ByteLevelFile;
using test::MustParse;
using test::ParseError;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Tokenizer, MergesByRankAndFindsAddedTokensFirst) {
  const auto tokenizer = MustParse(ByteLevelFile());
  EXPECT_THAT(*tokenizer->Encode("hello<|end|>helo", true), ElementsAre(259, 261, 256, 'l', 'o'));
  EXPECT_EQ(tokenizer->vocab_size(), 262);
}

TEST(Tokenizer, AWordThatNoMergeMakesIsTakenOnlyWithIgnoreMerges) {
  json file = ByteLevelFile();
  EXPECT_EQ(MustParse(file)->Encode(" world", false)->size(), 6u);
  file["model"]["ignore_merges"] = true;
  EXPECT_THAT(*MustParse(file)->Encode("hello world", false), ElementsAre(259, 260));
}

TEST(Tokenizer, EncodesNoTextAsNoTokens) {
  EXPECT_TRUE(MustParse(ByteLevelFile())->Encode("", true)->empty());
  EXPECT_TRUE(MustParse(ByteFallbackFile())->Encode("", true)->empty());
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  const auto tokenizer = MustParse(ByteLevelFile());
  for (const char* text : {"\xFF", "a\xC3", "\xED\xA0\x80", "\xC0\x80", "\xF4\x90\x80\x80"}) {
    EXPECT_EQ(tokenizer->Encode(text, false).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(Tokenizer, FallsBackToBytesAndDecodesThemBack) {
  const auto tokenizer = MustParse(ByteFallbackFile());
  // U+2581ab, U+2581, then the two bytes of e with acute.
  EXPECT_THAT(*tokenizer->Encode("ab \u00E9", false), ElementsAre(264, 259, 3 + 0xC3, 3 + 0xA9));
  EXPECT_EQ(tokenizer->Decode(*tokenizer->Encode("ab \u00E9", false), true), "ab \u00E9");
}

TEST(Tokenizer, DecodesUnknownIdsToNothing) {
  const auto tokenizer = MustParse(ByteLevelFile());
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{-1, 'a', 262, 1 << 30, 'b'}, true), "ab");
}

TEST(Tokenizer, SkipsSpecialTokensOnlyWhenAsked) {
  const auto tokenizer = MustParse(ByteLevelFile());
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{'a', 261}, true), "a");
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{'a', 261}, false), "a<|end|>");
}

TEST(Tokenizer, PutsBosInFrontWhereOnlyTheConfigWantsIt) {
  const std::string config = R"({"add_bos_token": true, "bos_token": {"content": "<|end|>"}})";
  const auto tokenizer = MustParse(ByteLevelFile(), config);
  EXPECT_THAT(*tokenizer->Encode("a", true), ElementsAre(261, 'a'));
  EXPECT_THAT(*tokenizer->Encode("", true), ElementsAre(261));
  EXPECT_THAT(*tokenizer->Encode("a", false), ElementsAre('a'));
  // A BOS that the text itself spells out is the text's.
  EXPECT_THAT(*tokenizer->Encode("<|end|>a", true), ElementsAre(261, 261, 'a'));
}

TEST(Tokenizer, PutsOneBosInFrontWhereTheTemplateAddsItToo) {
  json file = ByteLevelFile();
  file["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"SpecialToken", {{"id", "<|end|>"}, {"type_id", 0}}}},
        {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
      {"special_tokens", {{"<|end|>", {{"id", "<|end|>"}, {"ids", json::array({261})}}}}}};
  const auto tokenizer = MustParse(file, R"({"add_bos_token": true, "bos_token": "<|end|>",
                          "model_max_length": 1000000000000000019884624838656})");
  EXPECT_THAT(*tokenizer->Encode("a", true), ElementsAre(261, 'a'));
}

TEST(Tokenizer, NamesWhatIsWrongWithTheConfig) {
  const json file = ByteLevelFile();
  EXPECT_THAT(ParseError(file, "{"), HasSubstr("tokenizer_config.json: not valid JSON"));
  EXPECT_THAT(ParseError(file, "[]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(ParseError(file, R"({"add_bos_token": 1})"), HasSubstr("field add_bos_token"));
  EXPECT_THAT(ParseError(file, R"({"add_bos_token": true})"), HasSubstr("field bos_token"));
  EXPECT_THAT(ParseError(file, R"({"add_bos_token": true, "bos_token": 3})"),
              HasSubstr("field bos_token"));
  EXPECT_THAT(ParseError(file, R"({"add_bos_token": true, "bos_token": "<no>"})"),
              HasSubstr("\"<no>\", which tokenizer.json lacks"));
}

TEST(Tokenizer, SaysNotFoundOfAFolderWithoutOne) {
  EXPECT_EQ(Tokenizer::Load(testing::TempDir() + "/nowhere").status().code(),
            absl::StatusCode::kNotFound);
}

TEST(Tokenizer, LoadsAFolderWithoutAConfig) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "no_config";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "tokenizer.json") << ByteLevelFile().dump();
  const auto tokenizer = Tokenizer::Load(folder.string());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(*(*tokenizer)->Encode("he", true), ElementsAre(256));
}

// A change to the byte-level file and what the error must say.
struct Hostile {
  const char* pointer;
  const char* value;
  const char* says;
};

class HostileFiles : public testing::TestWithParam<Hostile> {};

TEST_P(HostileFiles, GetAnErrorThatNamesTheField) {
  const Hostile& hostile = GetParam();
  json file = ByteLevelFile();
  file[json::json_pointer(hostile.pointer)] = json::parse(hostile.value);
  const std::string error = ParseError(file);
  EXPECT_THAT(error, HasSubstr("tokenizer.json: field "));
  EXPECT_THAT(error, HasSubstr(hostile.says));
}

INSTANTIATE_TEST_SUITE_P(
    Tokenizer, HostileFiles,
    testing::Values(
        Hostile{"/version", "\"2.0\"", "version is \"2.0\""},
        Hostile{"/model", "null", "model is missing"}, Hostile{"/model", "[]", "model is an array"},
        Hostile{"/model/type", "\"WordPiece\"", "model.type is \"WordPiece\""},
        Hostile{"/model/vocab", "null", "model.vocab is missing"},
        Hostile{"/model/vocab", "[1]", "model.vocab is an array"},
        Hostile{"/model/vocab/x", "-1", "model.vocab[\"x\"] is -1"},
        Hostile{"/model/vocab/x", "4194304", "expected an id from 0 to 4194303"},
        Hostile{"/model/vocab/x", "18446744073709551615", "model.vocab[\"x\"]"},
        Hostile{"/model/vocab/x", "1.5", "model.vocab[\"x\"] is 1.5"},
        Hostile{"/model/vocab/x", "\"0\"", "model.vocab[\"x\"]"},
        Hostile{"/model/vocab/xy", "7", "has already"},
        Hostile{"/model/merges", "{}", "model.merges is an object"},
        Hostile{"/model/merges/1", "[\"h\",\"zz\"]", "model.merges[1] needs \"zz\""},
        Hostile{"/model/merges/1", "[\"h\",\"h\"]", "model.merges[1] needs \"hh\""},
        Hostile{"/model/merges/1", "[\"h\"]", "model.merges[1] is not an array of two"},
        Hostile{"/model/merges/1", "\"a b c\"", "model.merges[1] is \"a b c\""},
        Hostile{"/model/merges/1", "7", "model.merges[1] is a number"},
        Hostile{"/model/dropout", "0.1", "model.dropout is set"},
        Hostile{"/model/end_of_word_suffix", "\"</w>\"", "model.end_of_word_suffix"},
        Hostile{"/model/byte_fallback", "\"yes\"", "model.byte_fallback is a string"},
        Hostile{"/added_tokens", "7", "added_tokens is a number"},
        Hostile{"/added_tokens/0/id", "-5", "added_tokens[0].id is -5"},
        Hostile{"/added_tokens/0/id", "1e99", "added_tokens[0].id is not a whole number"},
        Hostile{"/added_tokens/0/id", "5", "the id 5, which \"\u0105\" has"},
        Hostile{"/added_tokens/0/content", "\"he\"", "but model.vocab the id 256"},
        Hostile{"/added_tokens/1", R"({"id": 261, "content": "q"})", "added_tokens[1].id is 261"},
        Hostile{"/added_tokens/1", R"({"id": 9999, "content": "<|end|>"})", "added_tokens[1].id"},
        Hostile{"/normalizer", R"({"type": "Precompiled"})", "normalizer.type is \"Precompiled\""},
        Hostile{"/normalizer", R"({"type": "Sequence"})", "normalizer.normalizers is missing"},
        Hostile{"/normalizer", "\"NFC\"", "normalizer is a string"},
        Hostile{"/normalizer", R"({"type":"Replace","pattern":{"Regex":"("},"content":""})",
                "normalizer.pattern is not a regular expression"},
        Hostile{"/normalizer", R"({"type":"Replace","pattern":{"String":""},"content":""})",
                "normalizer.pattern is an empty pattern"},
        Hostile{"/pre_tokenizer", R"({"type": "Whitespace"})", "pre_tokenizer.type"},
        Hostile{"/pre_tokenizer",
                R"({"type":"Split","pattern":{"Regex":"[a"},"behavior":"Isolated"})",
                "pre_tokenizer.pattern"},
        Hostile{"/pre_tokenizer",
                R"({"type":"Split","pattern":{"Regex":"a"},"behavior":"Sideways"})",
                "pre_tokenizer.behavior is \"Sideways\""},
        Hostile{"/post_processor", R"({"type": "BertProcessing"})", "post_processor.type"},
        Hostile{"/post_processor",
                R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}]})",
                "post_processor.special_tokens is missing"},
        Hostile{"/post_processor", R"({"type": "TemplateProcessing", "single": []})",
                "post_processor.single lacks the sequence A"},
        Hostile{"/decoder", R"({"type": "CTC"})", "decoder.type is \"CTC\""},
        Hostile{"/decoder", R"({"type": "Strip", "content": "ab", "start": 0, "stop": 0})",
                "decoder.content is \"ab\""}));

TEST(Tokenizer, NamesTheFileThatIsNotJson) {
  for (const char* text : {"", " ", "{", "[]", "nul", "{\"a\": \"\xFF\"}", "{} {}"}) {
    const auto tokenizer = Tokenizer::Parse(text, "");
    ASSERT_FALSE(tokenizer.ok()) << text;
    EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("tokenizer.json: "));
  }
}

TEST(Tokenizer, RefusesDeepNesting) {
  std::string deep = R"({"type": "Sequence", "normalizers": [)";
  std::string text;
  for (int i = 0; i < 40; ++i) text += deep;
  text += R"({"type": "NFC"})";
  for (int i = 0; i < 40; ++i) text += "]}";
  json file = ByteLevelFile();
  file["normalizer"] = json::parse(text);
  EXPECT_THAT(ParseError(file), HasSubstr("nested too deeply"));
  EXPECT_FALSE(Tokenizer::Parse(std::string(100000, '['), "").ok());
}

TEST(Tokenizer, RefusesEndlessSteps) {
  const auto with = [](const char* field, const char* list, const json& step, int count) {
    json file = ByteLevelFile();
    file[field] = {{"type", "Sequence"},
                   {list, std::vector<json>(static_cast<size_t>(count), step)}};
    return Tokenizer::Parse(file.dump(), "").status();
  };
  const json strip = {{"type", "Strip"}, {"content", "x"}, {"start", 1}, {"stop", 0}};
  const json end = {{"SpecialToken", {{"id", "end"}, {"type_id", 0}}}};
  const json around = {{"type", "TemplateProcessing"},
                       {"single", {end, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
                       {"special_tokens", {{"end", {{"id", "end"}, {"ids", {261}}}}}}};
  EXPECT_TRUE(with("normalizer", "normalizers", {{"type", "NFC"}}, 64).ok());
  EXPECT_FALSE(with("normalizer", "normalizers", {{"type", "NFC"}}, 65).ok());
  EXPECT_TRUE(with("pre_tokenizer", "pretokenizers", {{"type", "Digits"}}, 64).ok());
  EXPECT_FALSE(with("pre_tokenizer", "pretokenizers", {{"type", "Digits"}}, 65).ok());
  EXPECT_TRUE(with("decoder", "decoders", strip, 64).ok());
  EXPECT_FALSE(with("decoder", "decoders", strip, 65).ok());
  EXPECT_TRUE(with("post_processor", "processors", around, 1024).ok());
  EXPECT_FALSE(with("post_processor", "processors", around, 1025).ok());
}

TEST(Tokenizer, StopsACatastrophicRegex) {
  json file = ByteLevelFile();
  file["pre_tokenizer"] = {{"type", "Split"},
                           {"pattern", {{"Regex", "(?:a|a|aa)+[bd]"}}},
                           {"behavior", "Isolated"},
                           {"invert", false}};
  const auto ids = MustParse(file)->Encode(std::string(5000, 'a') + "c", false);
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ids.status().message()), HasSubstr("field pre_tokenizer: matching"));
}

TEST(Tokenizer, StopsANormalizerThatExplodes) {
  json file = ByteLevelFile();
  json twice = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(1000, 'a')}};
  file["normalizer"] = {{"type", "Sequence"}, {"normalizers", {twice, twice, twice, twice}}};
  const auto ids = MustParse(file)->Encode("a", false);
  EXPECT_THAT(std::string(ids.status().message()), HasSubstr("field normalizer"));
}

}  // namespace
}  // namespace ballast
