// The "normalizer" of tokenizer.json: text in, text out.
//
// Kinds: NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Prepend, Replace, ByteLevel,
// Sequence. Others are refused by name.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.h"
#include "engine/tokenizer/json_field.h"

namespace ballast {

class Normalizer {
 public:
  // Nothing to do when `field` is absent.
  static absl::StatusOr<Normalizer> Parse(const std::optional<JsonField>& field);

  Normalizer(Normalizer&&) noexcept;
  Normalizer& operator=(Normalizer&&) noexcept;
  ~Normalizer();

  bool empty() const { return steps_.empty(); }

  // Changes `text`, which must be UTF-8. Fails only when a Replace pattern exceeds its limits.
  absl::Status Apply(std::string* text) const;

 private:
  struct Step;
  Normalizer();
  absl::Status AddSteps(const JsonField& field, int depth);
  absl::Status AddReplace(const JsonField& field);

  std::vector<Step> steps_;
};

// `pattern` of a Replace or a Split: {"String": ...} or {"Regex": ...}.
struct PatternField {
  bool is_regex;
  std::string_view text;
};
absl::StatusOr<PatternField> ParsePattern(const JsonField& owner);

}  // namespace ballast
