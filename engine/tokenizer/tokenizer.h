// tokenizer.json (Hugging Face `tokenizers`), BPE models: byte-level and byte-fallback kinds.
// Reference: tokenizers 0.23. Immutable after Load; any thread may use it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.h"

namespace ballast {

class Tokenizer {
 public:
  // Reads tokenizer.json and tokenizer_config.json (optional) of a checkpoint folder. NOT_FOUND
  // when there is no tokenizer.json; else errors name the file, the field, what was found and what
  // was expected.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& folder);
  // The same from the files' contents; `config_json` may be empty.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Parse(std::string_view tokenizer_json,
                                                          std::string_view config_json);
  ~Tokenizer();

  // Token ids of UTF-8 `text`. Special tokens as the post-processor adds them; where
  // tokenizer_config.json says add_bos_token and the post-processor puts no BOS in front, it is put
  // there (transformers 4 did so). INVALID_ARGUMENT when the text is not UTF-8, or when it drives a
  // regex or normaliser of the file past its limits.
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, bool add_special_tokens) const;

  // Ids that the vocabulary lacks decode to nothing.
  std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  // One more than the highest id.
  int vocab_size() const;

 private:
  friend class Detokenizer;
  struct Model;
  Tokenizer();
  std::unique_ptr<Model> model_;
};

// Decodes a sequence as it grows. The pieces it returns, joined, are decode(prompt + output) minus
// decode(prompt), special tokens skipped; each piece is whole UTF-8 and is never taken back.
//
// Where decode(prompt + output) does not begin with decode(prompt), because the output completed a
// character that the prompt left open, the text begins behind what the two have in common.
class Detokenizer {
 public:
  // The tokenizer must outlive it.
  Detokenizer(const Tokenizer& tokenizer, std::span<const int32_t> prompt);
  Detokenizer(Detokenizer&&) noexcept;
  Detokenizer& operator=(Detokenizer&&) noexcept;
  ~Detokenizer();

  // The text that became certain with `token`, in time that does not depend on the tokens before.
  std::string Append(int32_t token);
  // The rest, once no token will follow (an incomplete character shows as U+FFFD).
  std::string Flush();

 private:
  struct State;
  // Takes off `text` what the prompt's own decoding ended with.
  std::string WithoutPrompt(std::string text);

  const Tokenizer* tokenizer_;
  std::unique_ptr<State> state_;
};

}  // namespace ballast
