// Byte-pair encoding: the "model" of tokenizer.json.
//
// A piece becomes its characters' tokens (or, for byte-level models, its bytes'), then the pair of
// neighbours with the lowest rank is merged, the leftmost first, until no pair can be.
// Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"; behaviour as
// in Hugging Face tokenizers' models/bpe.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "engine/status.h"
#include "engine/tokenizer/json_field.h"

namespace ballast {

// Merges by pair of token ids, and the merging itself.
class MergeTable {
 public:
  struct Merge {
    uint32_t rank;
    int32_t result;
  };
  // Working memory of one thread, kept between calls.
  struct Scratch {
    struct Symbol {
      int32_t id;
      int32_t previous;  // -1 at the beginning
      int32_t next;      // the count of symbols at the end
      bool alive;
    };
    struct Candidate {
      uint32_t rank;
      int32_t at;
      int32_t result;
    };
    std::vector<uint32_t> ranks;
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  void Add(int32_t left, int32_t right, Merge merge) { merges_[Key(left, right)] = merge; }
  void Reserve(size_t count) { merges_.reserve(count); }

  // Merges `ids` in place, in O(n log n).
  void Apply(std::vector<int32_t>* ids, Scratch* scratch) const;

 private:
  static uint64_t Key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  const Merge* Find(int32_t left, int32_t right) const {
    const auto found = merges_.find(Key(left, right));
    return found == merges_.end() ? nullptr : &found->second;
  }
  void ApplyByScan(std::vector<int32_t>* ids, Scratch* scratch) const;
  void ApplyByHeap(std::vector<int32_t>* ids, Scratch* scratch) const;

  absl::flat_hash_map<uint64_t, Merge> merges_;
};

// Immutable after Parse; any thread may use it.
class Bpe {
 public:
  // `byte_level`: pieces come as plain bytes, while the vocabulary is written in the byte alphabet.
  static absl::StatusOr<std::unique_ptr<Bpe>> Parse(const JsonField& model, bool byte_level);

  Bpe(const Bpe&) = delete;
  Bpe& operator=(const Bpe&) = delete;

  struct Scratch {
    MergeTable::Scratch merging;
    std::vector<int32_t> ids;
  };

  // Appends the ids of `piece`, which is UTF-8 for models that are not byte-level. Fails only when
  // it needs an unknown token that the vocabulary lacks.
  absl::Status Encode(std::string_view piece, std::vector<int32_t>* ids, Scratch* scratch) const;

  // As written in the file.
  std::optional<int32_t> IdOf(std::string_view token) const;
  std::optional<std::string_view> TokenOf(int32_t id) const;
  int32_t max_id() const { return max_id_; }  // -1 when empty

 private:
  // Two characters below 0x80.
  static size_t AsciiPair(char32_t left, char32_t right) { return left << 7 | right; }

  Bpe() = default;
  absl::Status ReadOptions(const JsonField& model);
  absl::Status ReadVocabulary(const JsonField& vocab);
  absl::Status ReadMerges(const JsonField& merges);
  absl::Status AddMerge(std::string_view left, std::string_view right, uint32_t rank,
                        const JsonField& merges, std::string* joined);
  void IndexSymbols();
  void IndexWords();
  void NoteJoint(std::string_view left, std::string_view right);

  int32_t SymbolOf(char32_t character) const;
  bool CanJoin(char32_t left, char32_t right) const;
  bool HasByteTokens(std::string_view character) const;
  absl::Status AppendUnknown(std::string_view character, bool* unknown_pending,
                             std::vector<int32_t>* ids) const;
  void EncodeSegment(std::string_view segment, std::vector<int32_t>* ids, Scratch* scratch) const;
  absl::Status EncodeBytes(std::string_view piece, std::vector<int32_t>* ids,
                           Scratch* scratch) const;
  absl::Status EncodeCharacters(std::string_view piece, std::vector<int32_t>* ids,
                                Scratch* scratch) const;
  absl::Status EncodeWhole(std::string_view piece, std::vector<int32_t>* ids,
                           Scratch* scratch) const;

  bool byte_level_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
  bool fuse_unknown_ = false;
  std::string unknown_token_;  // empty where the file names none
  std::optional<int32_t> unknown_id_;

  std::string vocab_text_;  // what the keys below point into
  absl::flat_hash_map<std::string_view, int32_t> id_of_token_;
  absl::flat_hash_map<int32_t, std::string_view> token_of_id_;
  int32_t max_id_ = -1;

  MergeTable merges_;
  std::array<int32_t, 256> byte_symbols_{};  // byte-level: of a byte; else: of an ASCII character
  std::array<int32_t, 256> byte_tokens_{};   // of <0x00> to <0xFF>
  absl::flat_hash_map<char32_t, int32_t> symbols_;  // of the other characters

  // Tokens that merging makes of their own text: most words are found here at once.
  std::string word_text_;
  absl::flat_hash_map<std::string_view, int32_t> words_;

  // Pairs of characters that some merge joins. Between any others a text falls into segments that
  // merge each for itself, so whole documents need no heap of their own size.
  std::bitset<128 * 128> ascii_joints_;
  absl::flat_hash_set<uint64_t> joints_;
  bool unknowns_merge_ = false;  // some merge takes a <0xXX> or unknown token: no segments then
};

}  // namespace ballast
