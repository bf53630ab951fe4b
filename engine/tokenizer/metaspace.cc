#include "engine/tokenizer/metaspace.h"

#include "engine/concat.h"
#include "engine/tokenizer/utf8.h"

namespace ballast {

absl::StatusOr<Metaspace> ParseMetaspace(const JsonField& field) {
  Metaspace metaspace;
  ASSIGN_OR_RETURN(JsonField replacement, field.Get("replacement"));
  ASSIGN_OR_RETURN(std::string_view character, replacement.AsString());
  if (character.empty() || Utf8Length(character[0]) != character.size()) {
    return replacement.Error(Concat("is ", QuoteForError(character), ", expected one character"));
  }
  metaspace.replacement = std::string(character);
  ASSIGN_OR_RETURN(std::optional<JsonField> scheme, field.Find("prepend_scheme"));
  std::string_view name = "always";
  if (scheme) {
    ASSIGN_OR_RETURN(name, scheme->AsString());
  }
  if (name == "first") {
    metaspace.prepend = Metaspace::Prepend::kFirst;
  } else if (name == "never") {
    metaspace.prepend = Metaspace::Prepend::kNever;
  } else if (name != "always") {
    return scheme->Error(Concat("is ", QuoteForError(name), ", expected first, never or always"));
  }
  // Files older than prepend_scheme.
  ASSIGN_OR_RETURN(bool prefix_space, field.GetBool("add_prefix_space", true));
  if (!prefix_space) metaspace.prepend = Metaspace::Prepend::kNever;
  return metaspace;
}

std::string ApplyMetaspace(const Metaspace& metaspace, std::string_view text, bool at_start) {
  std::string out = ReplaceAll(text, " ", metaspace.replacement);
  const bool wanted = metaspace.prepend == Metaspace::Prepend::kAlways ||
                      (metaspace.prepend == Metaspace::Prepend::kFirst && at_start);
  if (wanted && !out.starts_with(metaspace.replacement)) {
    out.insert(0, metaspace.replacement);
  }
  return out;
}

}  // namespace ballast
