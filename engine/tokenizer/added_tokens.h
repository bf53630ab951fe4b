// The "added_tokens" of tokenizer.json: found in the text as they are, before BPE sees the rest.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.h"
#include "engine/tokenizer/json_field.h"
#include "engine/tokenizer/regex.h"

namespace ballast {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  std::string pattern;  // what is searched for: the content, normalised where `normalized`
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = false;
  bool special = false;
};

// Reads the list; tokens without content are left out, as Hugging Face does. `pattern` is
// the content still.
absl::StatusOr<std::vector<AddedToken>> ParseAddedTokens(const std::optional<JsonField>& field);

// Finds a set of added tokens. Immutable; any thread may use it.
class AddedTokenSplitter {
 public:
  // A piece of the text: an added token, or (id -1) text between.
  struct Piece {
    int32_t id;
    std::string_view text;
  };

  explicit AddedTokenSplitter(std::vector<AddedToken> tokens);

  // Splits UTF-8 `text` at the tokens, leftmost first and the longest of those, and appends the
  // pieces that are not empty. A token with lstrip or rstrip takes the white space beside it along.
  void Split(std::string_view text, std::vector<Piece>* pieces) const;

 private:
  const AddedToken* LongestAt(std::string_view text, size_t at) const;
  bool StandsAlone(std::string_view text, size_t start, size_t end) const;

  std::vector<AddedToken> tokens_;       // by pattern, none twice
  std::array<bool, 256> may_begin_{};    // by first byte
  std::optional<Regex> word_character_;  // compiled where some token is single_word
};

}  // namespace ballast
