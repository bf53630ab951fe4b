#include "engine/tokenizer/normalizer.h"

#include <utility>
#include <variant>

#include "engine/concat.h"
#include "engine/tokenizer/limits.h"
#include "engine/tokenizer/regex.h"
#include "engine/tokenizer/unicode_forms.h"
#include "engine/tokenizer/utf8.h"

namespace ballast {
namespace {

// No real normaliser comes near: the longest compatibility decomposition is 11 times its bytes.
constexpr size_t kMaxGrowth = 32;
constexpr size_t kFreeBytes = 64 * 1024;

absl::Status TooLong(size_t limit) {
  return absl::InvalidArgumentError(
      Concat("tokenizer.json: field normalizer makes the text longer than ", limit, " bytes"));
}

struct Lowercase {};
struct StripAccents {};
struct ByteLevel {};
struct Strip {
  bool left;
  bool right;
};
struct Prepend {
  std::string text;
};
struct ReplaceText {
  std::string pattern;
  std::string content;
};
struct ReplaceRegex {
  Regex pattern;
  std::string content;
};

absl::Status Run(const UnicodeForm& form, size_t, std::string* text) {
  *text = ToUnicodeForm(*text, form);
  return absl::OkStatus();
}

absl::Status Run(const Lowercase&, size_t, std::string* text) {
  std::string out;
  out.reserve(text->size());
  for (size_t at = 0; at < text->size(); at += Utf8Length((*text)[at])) {
    AppendLowercase(Utf8At(*text, at), &out);
  }
  *text = std::move(out);
  return absl::OkStatus();
}

absl::Status Run(const StripAccents&, size_t, std::string* text) {
  std::string out;
  for (size_t at = 0; at < text->size(); at += Utf8Length((*text)[at])) {
    const size_t length = Utf8Length((*text)[at]);
    if (!IsMark(Utf8At(*text, at))) out.append(*text, at, length);
  }
  *text = std::move(out);
  return absl::OkStatus();
}

absl::Status Run(const ByteLevel&, size_t, std::string* text) {
  *text = ToByteAlphabet(*text);
  return absl::OkStatus();
}

absl::Status Run(const Strip& strip, size_t, std::string* text) {
  size_t begin = 0;
  size_t end = text->size();
  if (strip.left) {
    while (begin < end && IsWhiteSpace(Utf8At(*text, begin))) begin += Utf8Length((*text)[begin]);
  }
  while (strip.right && end > begin) {
    const size_t last = LastCharacter(std::string_view(*text).substr(0, end));
    if (!IsWhiteSpace(Utf8At(*text, last))) break;
    end = last;
  }
  *text = text->substr(begin, end - begin);
  return absl::OkStatus();
}

absl::Status Run(const Prepend& prepend, size_t, std::string* text) {
  if (!text->empty()) text->insert(0, prepend.text);
  return absl::OkStatus();
}

absl::Status Run(const ReplaceText& replace, size_t limit, std::string* text) {
  std::string out;
  out.reserve(text->size());
  size_t done = 0;
  for (size_t at; (at = text->find(replace.pattern, done)) != std::string::npos;) {
    out.append(*text, done, at - done);
    out += replace.content;
    if (out.size() > limit) return TooLong(limit);
    done = at + replace.pattern.size();
  }
  out.append(*text, done);
  *text = std::move(out);
  return absl::OkStatus();
}

absl::Status Run(const ReplaceRegex& replace, size_t limit, std::string* text) {
  if (text->empty()) return absl::OkStatus();
  std::string out;
  size_t done = 0;
  RegexSearch search(replace.pattern);
  search.Start(*text);
  for (size_t start, end; search.Next(&start, &end); done = end) {
    out.append(*text, done, start - done);
    out += replace.content;
    if (out.size() > limit) return TooLong(limit);
  }
  RETURN_IF_ERROR(search.status());
  out.append(*text, done);
  *text = std::move(out);
  return absl::OkStatus();
}

}  // namespace

struct Normalizer::Step {
  std::variant<UnicodeForm, Lowercase, StripAccents, ByteLevel, Strip, Prepend, ReplaceText,
               ReplaceRegex>
      kind;
};

Normalizer::Normalizer() = default;
Normalizer::Normalizer(Normalizer&&) noexcept = default;
Normalizer& Normalizer::operator=(Normalizer&&) noexcept = default;
Normalizer::~Normalizer() = default;

absl::StatusOr<PatternField> ParsePattern(const JsonField& owner) {
  ASSIGN_OR_RETURN(JsonField pattern, owner.Get("pattern"));
  ASSIGN_OR_RETURN(std::optional<JsonField> literal, pattern.Find("String"));
  ASSIGN_OR_RETURN(std::optional<JsonField> regex, pattern.Find("Regex"));
  if (literal.has_value() == regex.has_value()) {
    return pattern.Error("has not exactly one of String and Regex");
  }
  ASSIGN_OR_RETURN(std::string_view text, (literal ? *literal : *regex).AsString());
  if (text.empty()) return pattern.Error("is an empty pattern");
  return PatternField{regex.has_value(), text};
}

absl::Status Normalizer::AddReplace(const JsonField& field) {
  ASSIGN_OR_RETURN(PatternField pattern, ParsePattern(field));
  ASSIGN_OR_RETURN(std::string_view content, field.GetString("content"));
  if (!pattern.is_regex) {
    steps_.push_back({ReplaceText{std::string(pattern.text), std::string(content)}});
    return absl::OkStatus();
  }
  absl::StatusOr<Regex> regex = Regex::Compile(pattern.text);
  if (!regex.ok()) return field.ErrorAt(".pattern", Concat("is ", regex.status().message()));
  steps_.push_back({ReplaceRegex{*std::move(regex), std::string(content)}});
  return absl::OkStatus();
}

absl::Status Normalizer::AddSteps(const JsonField& field, int depth) {
  if (depth > kMaxSequenceDepth || steps_.size() >= kMaxSteps) {
    return field.Error(Concat("is nested too deeply or one of more than ", kMaxSteps, " steps"));
  }
  ASSIGN_OR_RETURN(std::string_view type, field.GetString("type"));
  if (type == "Sequence") {
    ASSIGN_OR_RETURN(JsonField list, field.Get("normalizers"));
    ASSIGN_OR_RETURN(std::vector<JsonField> steps, list.AsArray());
    for (const JsonField& step : steps) RETURN_IF_ERROR(AddSteps(step, depth + 1));
  } else if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    steps_.push_back({UnicodeForm{type.back() == 'C', type.size() == 4}});
  } else if (type == "Lowercase") {
    steps_.push_back({Lowercase{}});
  } else if (type == "StripAccents") {
    steps_.push_back({StripAccents{}});
  } else if (type == "ByteLevel") {
    steps_.push_back({ByteLevel{}});
  } else if (type == "Strip") {
    ASSIGN_OR_RETURN(bool left, field.GetBool("strip_left", true));
    ASSIGN_OR_RETURN(bool right, field.GetBool("strip_right", true));
    steps_.push_back({Strip{left, right}});
  } else if (type == "Prepend") {
    ASSIGN_OR_RETURN(std::string_view text, field.GetString("prepend"));
    steps_.push_back({Prepend{std::string(text)}});
  } else if (type == "Replace") {
    return AddReplace(field);
  } else {
    return field.ErrorAt(
        ".type", Concat("is ", QuoteForError(type), ", a normalizer that is not supported"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Normalizer> Normalizer::Parse(const std::optional<JsonField>& field) {
  Normalizer normalizer;
  if (field) RETURN_IF_ERROR(normalizer.AddSteps(*field, 0));
  return normalizer;
}

absl::Status Normalizer::Apply(std::string* text) const {
  const size_t limit = kFreeBytes + kMaxGrowth * text->size();
  for (const Step& step : steps_) {
    RETURN_IF_ERROR(
        std::visit([&](const auto& kind) { return Run(kind, limit, text); }, step.kind));
    if (text->size() > limit) return TooLong(limit);
  }
  return absl::OkStatus();
}

}  // namespace ballast
