// SentencePiece's visible space, as the pre-tokenizer and the decoder "Metaspace" share it.
#pragma once

#include <string>
#include <string_view>

#include "engine/status.h"
#include "engine/tokenizer/json_field.h"

namespace ballast {

struct Metaspace {
  enum class Prepend { kFirst, kNever, kAlways };
  std::string replacement;  // one character, mostly U+2581
  Prepend prepend = Prepend::kAlways;
};

absl::StatusOr<Metaspace> ParseMetaspace(const JsonField& field);

// `text` with spaces replaced and, where the scheme says so, one put in front.
std::string ApplyMetaspace(const Metaspace& metaspace, std::string_view text, bool at_start);

}  // namespace ballast
