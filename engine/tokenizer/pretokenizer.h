// The "pre_tokenizer" of tokenizer.json: cuts a text into the pieces that BPE sees one by one.
//
// Kinds: Split, ByteLevel, Digits, Punctuation, Metaspace, Sequence. Others are refused by name.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "engine/status.h"
#include "engine/tokenizer/json_field.h"
#include "engine/tokenizer/regex.h"

namespace ballast {

class PreTokenizer {
 public:
  // One piece, the whole text, when `field` is absent.
  static absl::StatusOr<PreTokenizer> Parse(const std::optional<JsonField>& field);

  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  // The last step is ByteLevel: pieces come as plain bytes, not in the byte alphabet.
  bool byte_level() const { return byte_level_; }

  using Sink = absl::FunctionRef<absl::Status(std::string_view piece)>;

  // Working memory of one Encode; the pre-tokenizer must outlive it.
  class Run {
   public:
    explicit Run(const PreTokenizer& owner);

    // Hands the pieces of `text` (UTF-8) to `sink` in order, none of them empty. `at_start`: the
    // text begins where the whole input does. Errors are the sink's, or a regex's limits.
    absl::Status Split(std::string_view text, bool at_start, Sink sink);

   private:
    absl::Status From(size_t step, std::string_view text, bool at_start, Sink sink);
    absl::Status FromSplit(size_t step, std::string_view text, bool at_start, Sink sink);

    const PreTokenizer& owner_;
    std::vector<std::optional<RegexSearch>> searches_;  // by step
  };

 private:
  struct Step;
  PreTokenizer();
  absl::Status AddSteps(const JsonField& field, int depth);
  absl::Status AddSplit(const JsonField& field);
  absl::Status AddByteLevel(const JsonField& field);
  absl::Status AddMetaspace(const JsonField& field);

  std::vector<Step> steps_;
  bool byte_level_ = false;
};

}  // namespace ballast
