// Made-up tokenizer.json files and golden encodings, for the tests of this folder.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/tokenizer/json_field.h"
#include "engine/tokenizer/tokenizer.h"

namespace ballast::test {

// A part of a file under test; `file` keeps it alive.
JsonField ParseField(JsonFile* file, const std::string& json);

// A byte-level tokenizer.json: ids 0 to 255 are the bytes, 256 "he", 257 "ll", 258 "hell",
// 259 "hello", 260 " world" (written whole, no merge makes it), and 261 the special token <|end|>.
nlohmann::json ByteLevelFile();
// A byte-fallback tokenizer.json like Mistral's: 0 <unk>, 1 <s>, 2 </s>, 3 to 258 <0x00> to <0xFF>,
// then U+2581, a, b, c, "ab", and U+2581 with "ab".
nlohmann::json ByteFallbackFile();

std::unique_ptr<Tokenizer> MustParse(const nlohmann::json& file, const std::string& config = "");
// The error of a file that must not load.
std::string ParseError(const nlohmann::json& file, const std::string& config = "");

struct Golden {
  std::string text;
  std::vector<int32_t> ids;
  std::vector<int32_t> ids_special;
  std::string decoded;
  std::string decoded_raw;
};

// Lines of a golden file; a name ending in .gz is unpacked with gzip. Empty when it can't be read.
std::vector<Golden> ReadGoldens(const std::string& path);

// What `command` writes; empty when it fails.
std::string OutputOf(const std::string& command);

// Expects every golden's ids and texts, and the incremental decoding at every split of it. `prefix`
// stands in front of ids_special beyond what the file holds.
void ExpectGoldens(const Tokenizer& tokenizer, const std::vector<Golden>& goldens,
                   const std::vector<int32_t>& prefix);

// What must come out of a Detokenizer: `whole` without what it has in common with `prompt`.
std::string Rest(const std::string& whole, const std::string& prompt);

// Appends all ids after the first `prompt` to a Detokenizer; every piece must be UTF-8.
std::string Stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, size_t prompt);

}  // namespace ballast::test
