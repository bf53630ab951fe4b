#include "tests/engine/tokenizer/tokenizer_files.h"

#include <cstdio>
#include <fstream>
#include <span>
#include <sstream>

#include "engine/tokenizer/utf8.h"
#include "gtest/gtest.h"

namespace ballast::test {

using nlohmann::json;

JsonField ParseField(JsonFile* file, const std::string& text) {
  auto root = file->Parse("{\"x\":" + text + "}", "tokenizer.json");
  EXPECT_TRUE(root.ok()) << root.status();
  return *root->Get("x");
}

json ByteLevelFile() {
  json vocab;
  for (int byte = 0; byte < 256; ++byte) vocab[ByteAlphabet()[byte]] = byte;
  int id = 256;
  for (const char* token : {"he", "ll", "hell", "hello", "\xC4\xA0world"}) vocab[token] = id++;
  const json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  return {{"version", "1.0"},
          {"added_tokens",
           json::array(
               {{{"id", 261}, {"content", "<|end|>"}, {"special", true}, {"normalized", false}}})},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", byte_level},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"vocab", vocab},
            {"merges", json::parse(R"([["h","e"],["l","l"],["he","ll"],["hell","o"]])")}}}};
}

json ByteFallbackFile() {
  json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  char token[8];
  for (int byte = 0; byte < 256; ++byte) {
    std::snprintf(token, sizeof(token), "<0x%02X>", byte);
    vocab[token] = 3 + byte;
  }
  int id = 259;
  for (const char* text : {"\u2581", "a", "b", "c", "ab", "\u2581ab"}) vocab[text] = id++;
  const auto special = [](int number, const char* content) {
    return json{{"id", number}, {"content", content}, {"special", true}, {"normalized", false}};
  };
  return {
      {"added_tokens", json::array({special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")})},
      {"normalizer",
       {{"type", "Sequence"},
        {"normalizers",
         {{{"type", "Prepend"}, {"prepend", "\u2581"}},
          {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}}}}},
      {"decoder",
       {{"type", "Sequence"},
        {"decoders",
         {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
          {{"type", "ByteFallback"}},
          {{"type", "Fuse"}},
          {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}},
      {"model",
       {{"type", "BPE"},
        {"unk_token", "<unk>"},
        {"fuse_unk", true},
        {"byte_fallback", true},
        {"vocab", vocab},
        {"merges", json::array({"a b", "\u2581 ab"})}}}};
}

std::unique_ptr<Tokenizer> MustParse(const json& file, const std::string& config) {
  auto tokenizer = Tokenizer::Parse(file.dump(), config);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

std::string ParseError(const json& file, const std::string& config) {
  const auto tokenizer = Tokenizer::Parse(file.dump(), config);
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(tokenizer.status().message());
}

std::string OutputOf(const std::string& command) {
  std::string output;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return output;
  char buffer[65536];
  for (size_t n; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) output.append(buffer, n);
  return pclose(pipe) == 0 ? output : "";
}

std::vector<Golden> ReadGoldens(const std::string& path) {
  std::string contents;
  if (path.ends_with(".gz")) {
    contents = OutputOf("gzip -dc '" + path + "'");
  } else {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream all;
    all << file.rdbuf();
    contents = all.str();
  }
  std::vector<Golden> goldens;
  std::istringstream lines(contents);
  for (std::string line; std::getline(lines, line);) {
    const json entry = json::parse(line);
    goldens.push_back({entry["text"], entry["ids"], entry["ids_special"], entry["decoded"],
                       entry["decoded_raw"]});
  }
  return goldens;
}

std::string Rest(const std::string& whole, const std::string& prompt) {
  size_t common = 0;
  while (common < whole.size() && common < prompt.size()) {
    const size_t length = Utf8Length(whole[common]);
    if (whole.compare(common, length, prompt, common, length) != 0) break;
    common += length;
  }
  return whole.substr(common);
}

std::string Stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, size_t prompt) {
  Detokenizer detokenizer(tokenizer, std::span(ids).first(prompt));
  std::string text;
  for (size_t i = prompt; i < ids.size(); ++i) {
    const std::string piece = detokenizer.Append(ids[i]);
    EXPECT_TRUE(IsUtf8(piece));
    text += piece;
  }
  const std::string rest = detokenizer.Flush();
  EXPECT_TRUE(IsUtf8(rest));
  return text + rest;
}

void ExpectGoldens(const Tokenizer& tokenizer, const std::vector<Golden>& goldens,
                   const std::vector<int32_t>& prefix) {
  for (const Golden& golden : goldens) {
    SCOPED_TRACE(golden.text);
    EXPECT_EQ(tokenizer.Encode(golden.text, false).value(), golden.ids);
    std::vector<int32_t> special = prefix;
    special.insert(special.end(), golden.ids_special.begin(), golden.ids_special.end());
    EXPECT_EQ(tokenizer.Encode(golden.text, true).value(), special);
    EXPECT_EQ(tokenizer.Decode(golden.ids, true), golden.decoded);
    EXPECT_EQ(tokenizer.Decode(golden.ids, false), golden.decoded_raw);
    for (size_t prompt = 0; prompt <= golden.ids.size(); ++prompt) {
      const std::string before = tokenizer.Decode(std::span(golden.ids).first(prompt), true);
      ASSERT_EQ(Stream(tokenizer, golden.ids, prompt), Rest(golden.decoded, before))
          << "behind " << prompt << " tokens";
    }
  }
}

}  // namespace ballast::test
