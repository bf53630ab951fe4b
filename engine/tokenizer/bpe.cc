#include "engine/tokenizer/bpe.h"

#include <utility>

#include "engine/tokenizer/utf8.h"

namespace ballast {

std::optional<int32_t> Bpe::IdOf(std::string_view token) const {
  const auto found = id_of_token_.find(token);
  if (found == id_of_token_.end()) return std::nullopt;
  return found->second;
}

std::optional<std::string_view> Bpe::TokenOf(int32_t id) const {
  const auto found = token_of_id_.find(id);
  if (found == token_of_id_.end()) return std::nullopt;
  return found->second;
}

int32_t Bpe::SymbolOf(char32_t character) const {
  if (character < 0x80) return byte_symbols_[character];
  const auto found = symbols_.find(character);
  return found == symbols_.end() ? -1 : found->second;
}

bool Bpe::CanJoin(char32_t left, char32_t right) const {
  if (left < 0x80 && right < 0x80) return ascii_joints_[AsciiPair(left, right)];
  return joints_.contains(static_cast<uint64_t>(left) << 32 | right);
}

bool Bpe::HasByteTokens(std::string_view character) const {
  if (!byte_fallback_) return false;
  for (char byte : character) {
    if (byte_tokens_[static_cast<unsigned char>(byte)] < 0) return false;
  }
  return true;
}

// A character that the vocabulary lacks: its bytes' tokens where all of them exist, else the
// unknown token, which waits, since a run of them may fuse. Hugging Face appends bytes before a
// waiting unknown token that stood left of them, and so must this.
absl::Status Bpe::AppendUnknown(std::string_view character, bool* unknown_pending,
                                std::vector<int32_t>* ids) const {
  if (HasByteTokens(character)) {
    for (char byte : character) ids->push_back(byte_tokens_[static_cast<unsigned char>(byte)]);
    return absl::OkStatus();
  }
  if (unknown_token_.empty()) return absl::OkStatus();
  if (!unknown_id_) {
    return absl::InvalidArgumentError("tokenizer.json: field model.unk_token is " +
                                      QuoteForError(unknown_token_) +
                                      ", which model.vocab lacks, and the text needs it");
  }
  if (*unknown_pending && !fuse_unknown_) ids->push_back(*unknown_id_);
  *unknown_pending = true;
  return absl::OkStatus();
}

// A segment's characters are all in the vocabulary.
void Bpe::EncodeSegment(std::string_view segment, std::vector<int32_t>* ids,
                        Scratch* scratch) const {
  if (const auto word = words_.find(segment); word != words_.end()) {
    ids->push_back(word->second);
    return;
  }
  scratch->ids.clear();
  for (size_t at = 0; at < segment.size(); at += Utf8Length(segment[at])) {
    scratch->ids.push_back(SymbolOf(Utf8At(segment, at)));
  }
  merges_.Apply(&scratch->ids, &scratch->merging);
  ids->insert(ids->end(), scratch->ids.begin(), scratch->ids.end());
}

absl::Status Bpe::EncodeCharacters(std::string_view piece, std::vector<int32_t>* ids,
                                   Scratch* scratch) const {
  const size_t ids_before = ids->size();
  bool unknown_pending = false;
  size_t begin = 0;  // of the segment
  char32_t previous = 0;
  for (size_t at = 0, length; at < piece.size(); at += length) {
    length = Utf8Length(piece[at]);
    const char32_t character = Utf8At(piece, at);
    const bool known = SymbolOf(character) >= 0;
    if (!known && unknown_token_.empty() && !HasByteTokens(piece.substr(at, length))) {
      // Such a character vanishes, and what stood beside it may merge.
      ids->resize(ids_before);
      return EncodeWhole(piece, ids, scratch);
    }
    if (begin < at && (!known || !CanJoin(previous, character))) {
      EncodeSegment(piece.substr(begin, at - begin), ids, scratch);
      begin = at;
    }
    previous = character;
    if (!known) {
      RETURN_IF_ERROR(AppendUnknown(piece.substr(at, length), &unknown_pending, ids));
      begin = at + length;
    } else if (unknown_pending) {
      ids->push_back(*unknown_id_);
      unknown_pending = false;
    }
  }
  if (begin < piece.size()) EncodeSegment(piece.substr(begin), ids, scratch);
  if (unknown_pending) ids->push_back(*unknown_id_);
  return absl::OkStatus();
}

// The plain way, for any model: all symbols first, then all merges.
absl::Status Bpe::EncodeWhole(std::string_view piece, std::vector<int32_t>* ids,
                              Scratch* scratch) const {
  bool unknown_pending = false;
  scratch->ids.clear();
  for (size_t at = 0, length; at < piece.size(); at += length) {
    length = byte_level_ ? 1 : Utf8Length(piece[at]);
    const auto byte = static_cast<unsigned char>(piece[at]);
    const int32_t symbol = byte_level_ ? byte_symbols_[byte] : SymbolOf(Utf8At(piece, at));
    if (symbol < 0) {
      const std::string_view character =
          byte_level_ ? std::string_view(ByteAlphabet()[byte]) : piece.substr(at, length);
      RETURN_IF_ERROR(AppendUnknown(character, &unknown_pending, &scratch->ids));
      continue;
    }
    if (unknown_pending) scratch->ids.push_back(*unknown_id_);
    unknown_pending = false;
    scratch->ids.push_back(symbol);
  }
  if (unknown_pending) scratch->ids.push_back(*unknown_id_);
  merges_.Apply(&scratch->ids, &scratch->merging);
  ids->insert(ids->end(), scratch->ids.begin(), scratch->ids.end());
  return absl::OkStatus();
}

absl::Status Bpe::EncodeBytes(std::string_view piece, std::vector<int32_t>* ids,
                              Scratch* scratch) const {
  if (const auto word = words_.find(piece); word != words_.end()) {
    ids->push_back(word->second);
    return absl::OkStatus();
  }
  return EncodeWhole(piece, ids, scratch);
}

absl::Status Bpe::Encode(std::string_view piece, std::vector<int32_t>* ids,
                         Scratch* scratch) const {
  if (piece.empty()) return absl::OkStatus();
  if (byte_level_) return EncodeBytes(piece, ids, scratch);
  if (ignore_merges_) {
    if (const auto token = id_of_token_.find(piece); token != id_of_token_.end()) {
      ids->push_back(token->second);
      return absl::OkStatus();
    }
  }
  if (unknowns_merge_) return EncodeWhole(piece, ids, scratch);
  return EncodeCharacters(piece, ids, scratch);
}

}  // namespace ballast
