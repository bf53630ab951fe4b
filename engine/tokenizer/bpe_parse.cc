#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/concat.h"
#include "engine/tokenizer/bpe.h"
#include "engine/tokenizer/limits.h"
#include "engine/tokenizer/utf8.h"

namespace ballast {
namespace {

// The only character of `token`, if it is one character.
std::optional<char32_t> OnlyCharacter(std::string_view token) {
  if (token.empty() || Utf8Length(token[0]) != token.size()) return std::nullopt;
  return Utf8At(token, 0);
}

// Settings of kinds of BPE that byte-level and byte-fallback models do not use.
absl::Status RefuseText(const JsonField& model, std::string_view key) {
  ASSIGN_OR_RETURN(std::optional<JsonField> field, model.Find(key));
  if (!field) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::string_view text, field->AsString());
  if (text.empty()) return absl::OkStatus();
  return field->Error(Concat("is ", QuoteForError(text), ", which is not supported"));
}

}  // namespace

absl::Status Bpe::ReadOptions(const JsonField& model) {
  ASSIGN_OR_RETURN(std::optional<JsonField> type, model.Find("type"));
  if (type) {
    ASSIGN_OR_RETURN(std::string_view name, type->AsString());
    if (name != "BPE") {
      return type->Error(Concat("is ", QuoteForError(name), ", expected \"BPE\""));
    }
  }
  ASSIGN_OR_RETURN(std::optional<JsonField> dropout, model.Find("dropout"));
  if (dropout) {
    double rate;
    if (dropout->value().get(rate) != simdjson::SUCCESS || rate != 0) {
      return dropout->Error("is set, expected null or 0: encoding must not be random");
    }
  }
  RETURN_IF_ERROR(RefuseText(model, "continuing_subword_prefix"));
  RETURN_IF_ERROR(RefuseText(model, "end_of_word_suffix"));
  ASSIGN_OR_RETURN(byte_fallback_, model.GetBool("byte_fallback", false));
  ASSIGN_OR_RETURN(ignore_merges_, model.GetBool("ignore_merges", false));
  ASSIGN_OR_RETURN(fuse_unknown_, model.GetBool("fuse_unk", false));
  ASSIGN_OR_RETURN(std::optional<JsonField> unknown, model.Find("unk_token"));
  if (unknown) {
    ASSIGN_OR_RETURN(std::string_view token, unknown->AsString());
    unknown_token_ = std::string(token);
  }
  return absl::OkStatus();
}

absl::Status Bpe::ReadVocabulary(const JsonField& vocab) {
  simdjson::dom::object entries;
  if (vocab.value().get(entries) != simdjson::SUCCESS) {
    return vocab.Error(Concat("is ", JsonKind(vocab.value()), ", expected an object"));
  }
  size_t bytes = 0;
  size_t count = 0;
  for (simdjson::dom::key_value_pair entry : entries) {
    bytes += entry.key.size();
    ++count;
  }
  vocab_text_.reserve(bytes);  // never grows: views into it stay good
  id_of_token_.reserve(count);
  token_of_id_.reserve(count);
  for (simdjson::dom::key_value_pair entry : entries) {
    const auto part = [&] { return Concat("[", QuoteForError(entry.key), "]"); };
    int64_t id;
    if (entry.value.get(id) != simdjson::SUCCESS || id < 0 || id > kMaxTokenId) {
      return vocab.ErrorAt(part(), Concat("is ", simdjson::minify(entry.value).substr(0, 40),
                                          ", expected an id from 0 to ", kMaxTokenId));
    }
    const size_t begin = vocab_text_.size();
    vocab_text_ += entry.key;
    const std::string_view token = std::string_view(vocab_text_).substr(begin);
    if (!id_of_token_.emplace(token, static_cast<int32_t>(id)).second) {
      return vocab.ErrorAt(part(), "is there twice");
    }
    const auto [other, fresh] = token_of_id_.emplace(static_cast<int32_t>(id), token);
    if (!fresh) {
      return vocab.ErrorAt(
          part(), Concat("is ", id, ", which ", QuoteForError(other->second), " has already"));
    }
    max_id_ = std::max(max_id_, static_cast<int32_t>(id));
  }
  if (!unknown_token_.empty()) unknown_id_ = IdOf(unknown_token_);
  return absl::OkStatus();
}

absl::Status Bpe::AddMerge(std::string_view left, std::string_view right, uint32_t rank,
                           const JsonField& merges, std::string* joined) {
  joined->assign(left);
  joined->append(right);
  const std::optional<int32_t> left_id = IdOf(left);
  const std::optional<int32_t> right_id = IdOf(right);
  const std::optional<int32_t> result = IdOf(*joined);
  if (!left_id || !right_id || !result) {
    const std::string_view missing = !left_id ? left : !right_id ? right : *joined;
    return merges.ErrorAt(Concat("[", rank, "]"),
                          Concat("needs ", QuoteForError(missing), ", which model.vocab lacks"));
  }
  if (left.empty() || right.empty()) {
    return merges.ErrorAt(Concat("[", rank, "]"), "has an empty side");
  }
  merges_.Add(*left_id, *right_id, {rank, *result});
  NoteJoint(left, right);
  return absl::OkStatus();
}

void Bpe::NoteJoint(std::string_view left, std::string_view right) {
  const char32_t before = Utf8At(left, LastCharacter(left));
  const char32_t after = Utf8At(right, 0);
  if (before < 0x80 && after < 0x80) ascii_joints_.set(AsciiPair(before, after));
  joints_.insert(static_cast<uint64_t>(before) << 32 | after);
  // A token that may stand for a character without being it breaks "the last character of the
  // left side": such models take the plain way.
  const auto is_stand_in = [&](std::string_view token) {
    if (token == unknown_token_) return true;
    return byte_fallback_ && token.size() == 6 && token.starts_with("<0x");
  };
  unknowns_merge_ |= is_stand_in(left) || is_stand_in(right);
}

absl::Status Bpe::ReadMerges(const JsonField& merges) {
  simdjson::dom::array entries;
  if (merges.value().get(entries) != simdjson::SUCCESS) {
    return merges.Error(Concat("is ", JsonKind(merges.value()), ", expected an array"));
  }
  merges_.Reserve(entries.size());
  uint32_t rank = 0;
  std::string joined;
  for (simdjson::dom::element entry : entries) {
    std::string_view left, right;
    simdjson::dom::array pair;
    if (entry.get(pair) == simdjson::SUCCESS) {
      if (pair.size() != 2 || pair.at(0).get(left) != simdjson::SUCCESS ||
          pair.at(1).get(right) != simdjson::SUCCESS) {
        return merges.ErrorAt(Concat("[", rank, "]"), "is not an array of two strings");
      }
    } else if (entry.get(left) == simdjson::SUCCESS) {
      const size_t space = left.find(' ');
      if (space == left.npos || left.find(' ', space + 1) != left.npos) {
        // Files made from an old merges.txt may carry its head line.
        if (rank == 0 && left.starts_with("#version")) continue;
        return merges.ErrorAt(
            Concat("[", rank, "]"),
            Concat("is ", QuoteForError(left), ", expected two tokens with one space between"));
      }
      right = left.substr(space + 1);
      left = left.substr(0, space);
    } else {
      return merges.ErrorAt(Concat("[", rank, "]"),
                            Concat("is ", JsonKind(entry), ", expected a pair of tokens"));
    }
    RETURN_IF_ERROR(AddMerge(left, right, rank++, merges, &joined));
  }
  return absl::OkStatus();
}

void Bpe::IndexSymbols() {
  byte_symbols_.fill(-1);
  byte_tokens_.fill(-1);
  for (int byte = 0; byte < 256; ++byte) {
    byte_tokens_[byte] = IdOf(absl::StrFormat("<0x%02X>", byte)).value_or(-1);
    if (byte_level_) byte_symbols_[byte] = IdOf(ByteAlphabet()[byte]).value_or(-1);
  }
  if (byte_level_) return;
  for (const auto& [token, id] : id_of_token_) {
    const std::optional<char32_t> character = OnlyCharacter(token);
    if (!character) continue;
    if (*character < 0x80) {
      byte_symbols_[*character] = id;
    } else {
      symbols_.emplace(*character, id);
    }
  }
}

void Bpe::IndexWords() {
  word_text_.reserve(vocab_text_.size());  // never grows: views into it stay good
  Scratch scratch;
  std::vector<int32_t> ids;
  std::string bytes;
  for (const auto& [token, id] : id_of_token_) {
    std::string_view text = token;
    if (token.empty()) continue;
    if (byte_level_) {
      if (!FromByteAlphabet(token, &bytes)) continue;
      const size_t begin = word_text_.size();
      word_text_ += bytes;
      text = std::string_view(word_text_).substr(begin);
    }
    ids.clear();
    const bool always = byte_level_ && ignore_merges_;
    if (always || (EncodeWhole(text, &ids, &scratch).ok() && ids.size() == 1 && ids[0] == id)) {
      words_.emplace(text, id);
    }
  }
}

absl::StatusOr<std::unique_ptr<Bpe>> Bpe::Parse(const JsonField& model, bool byte_level) {
  std::unique_ptr<Bpe> bpe(new Bpe);
  bpe->byte_level_ = byte_level;
  RETURN_IF_ERROR(bpe->ReadOptions(model));
  ASSIGN_OR_RETURN(JsonField vocab, model.Get("vocab"));
  ASSIGN_OR_RETURN(JsonField merges, model.Get("merges"));
  RETURN_IF_ERROR(bpe->ReadVocabulary(vocab));
  RETURN_IF_ERROR(bpe->ReadMerges(merges));
  bpe->IndexSymbols();
  bpe->IndexWords();
  return bpe;
}

}  // namespace ballast
