#include "engine/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "engine/concat.h"
#include "engine/tokenizer/limits.h"
#include "engine/tokenizer/utf8.h"

namespace ballast {
namespace {

size_t TrailingSpaceBegin(std::string_view text) {
  while (!text.empty()) {
    const size_t last = LastCharacter(text);
    if (!IsWhiteSpace(Utf8At(text, last))) break;
    text = text.substr(0, last);
  }
  return text.size();
}

size_t LeadingSpaceEnd(std::string_view text) {
  size_t at = 0;
  while (at < text.size() && IsWhiteSpace(Utf8At(text, at))) at += Utf8Length(text[at]);
  return at;
}

absl::StatusOr<AddedToken> ParseAddedToken(const JsonField& field) {
  AddedToken token;
  ASSIGN_OR_RETURN(JsonField id, field.Get("id"));
  ASSIGN_OR_RETURN(int64_t number, id.AsInt(0, kMaxTokenId));
  token.id = static_cast<int32_t>(number);
  ASSIGN_OR_RETURN(std::string_view content, field.GetString("content"));
  token.content = token.pattern = std::string(content);
  ASSIGN_OR_RETURN(token.single_word, field.GetBool("single_word", false));
  ASSIGN_OR_RETURN(token.lstrip, field.GetBool("lstrip", false));
  ASSIGN_OR_RETURN(token.rstrip, field.GetBool("rstrip", false));
  ASSIGN_OR_RETURN(token.special, field.GetBool("special", false));
  ASSIGN_OR_RETURN(token.normalized, field.GetBool("normalized", !token.special));
  return token;
}

}  // namespace

absl::StatusOr<std::vector<AddedToken>> ParseAddedTokens(const std::optional<JsonField>& field) {
  std::vector<AddedToken> tokens;
  if (!field) return tokens;
  ASSIGN_OR_RETURN(std::vector<JsonField> entries, field->AsArray());
  absl::flat_hash_map<int32_t, size_t> index_of_id;
  absl::flat_hash_map<std::string, size_t> index_of_content;
  for (const JsonField& entry : entries) {
    ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(entry));
    if (token.content.empty()) continue;
    const auto [by_id, new_id] = index_of_id.emplace(token.id, tokens.size());
    if (!new_id && tokens[by_id->second].content != token.content) {
      return entry.ErrorAt(
          ".id", Concat("is ", token.id, ", which ", QuoteForError(tokens[by_id->second].content),
                        " has already"));
    }
    const auto [by_content, new_content] = index_of_content.emplace(token.content, tokens.size());
    if (!new_content && tokens[by_content->second].id != token.id) {
      return entry.ErrorAt(
          ".id", Concat("is ", token.id, ", but an entry before gives ",
                        QuoteForError(token.content), " the id ", tokens[by_content->second].id));
    }
    if (new_content) {
      tokens.push_back(std::move(token));
    } else {
      tokens[by_content->second] = std::move(token);  // of two entries the later one counts
    }
  }
  return tokens;
}

AddedTokenSplitter::AddedTokenSplitter(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)) {
  std::erase_if(tokens_, [](const AddedToken& token) { return token.pattern.empty(); });
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const AddedToken& a, const AddedToken& b) { return a.pattern < b.pattern; });
  tokens_.erase(
      std::unique(tokens_.begin(), tokens_.end(),
                  [](const AddedToken& a, const AddedToken& b) { return a.pattern == b.pattern; }),
      tokens_.end());
  bool any_single_word = false;
  for (const AddedToken& token : tokens_) {
    may_begin_[static_cast<unsigned char>(token.pattern[0])] = true;
    any_single_word |= token.single_word;
  }
  if (any_single_word) {
    absl::StatusOr<Regex> word = Regex::Compile("[\\w]");
    CHECK(word.ok());
    word_character_ = *std::move(word);
  }
}

// Narrows the range of sorted patterns that begin like the text, byte by byte.
const AddedToken* AddedTokenSplitter::LongestAt(std::string_view text, size_t at) const {
  auto low = tokens_.begin();
  auto high = tokens_.end();
  const AddedToken* longest = nullptr;
  for (size_t depth = 0; low != high; ++depth) {
    if (low->pattern.size() == depth) {
      longest = &*low;
      ++low;  // it is the only one of this length, and sorts before its extensions
    }
    if (at + depth >= text.size()) break;
    const auto byte = static_cast<unsigned char>(text[at + depth]);
    const auto at_depth = [depth](const AddedToken& token) {
      return static_cast<unsigned char>(token.pattern[depth]);
    };
    low =
        std::partition_point(low, high, [&](const auto& token) { return at_depth(token) < byte; });
    high =
        std::partition_point(low, high, [&](const auto& token) { return at_depth(token) == byte; });
  }
  return longest;
}

bool AddedTokenSplitter::StandsAlone(std::string_view text, size_t start, size_t end) const {
  RegexSearch search(*word_character_);
  const auto is_word = [&](std::string_view character) {
    size_t from, to;
    search.Start(character);
    return search.Next(&from, &to);
  };
  const std::string_view before = text.substr(0, start);
  const std::string_view after = text.substr(end);
  if (!before.empty() && is_word(before.substr(LastCharacter(before)))) return false;
  return after.empty() || !is_word(after.substr(0, Utf8Length(after[0])));
}

void AddedTokenSplitter::Split(std::string_view text, std::vector<Piece>* pieces) const {
  size_t done = 0;
  size_t at = tokens_.empty() ? text.size() : 0;
  while (at < text.size()) {
    const AddedToken* token =
        may_begin_[static_cast<unsigned char>(text[at])] ? LongestAt(text, at) : nullptr;
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t start = at;
    size_t end = at + token->pattern.size();
    // The search goes on behind what matched, whether it counts or not and whatever it strips.
    at = end;
    if (token->single_word && !StandsAlone(text, start, end)) continue;
    if (token->lstrip) start = std::max(TrailingSpaceBegin(text.substr(0, start)), done);
    if (token->rstrip) end += LeadingSpaceEnd(text.substr(end));
    if (done < start) pieces->push_back({-1, text.substr(done, start - done)});
    pieces->push_back({token->id, text.substr(start, end - start)});
    done = end;
  }
  if (done < text.size()) pieces->push_back({-1, text.substr(done)});
}

}  // namespace ballast
