#include "engine/tokenizer/decoder.h"

#include <algorithm>
#include <utility>

#include "engine/concat.h"
#include "engine/tokenizer/decoder_steps.h"
#include "engine/tokenizer/limits.h"
#include "engine/tokenizer/normalizer.h"

namespace ballast {
namespace {

constexpr size_t kMaxTextPattern = 256;          // what a Replace behind the joining may hold back
constexpr double kMaxGrowth = 4096;              // of all Replaces together
constexpr int64_t kMaxStrip = int64_t{1} << 31;  // far above any token's length

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// The byte of a token like <0x0A>, or nothing.
std::optional<char> FallbackByte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  const int high = HexDigit(token[3]);
  const int low = HexDigit(token[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<char>(high << 4 | low);
}

absl::StatusOr<DecodeStrip> ParseStrip(const JsonField& field) {
  ASSIGN_OR_RETURN(JsonField content, field.Get("content"));
  ASSIGN_OR_RETURN(std::string_view character, content.AsString());
  if (character.empty() || Utf8Length(character[0]) != character.size()) {
    return content.Error(Concat("is ", QuoteForError(character), ", expected one character"));
  }
  ASSIGN_OR_RETURN(JsonField start_field, field.Get("start"));
  ASSIGN_OR_RETURN(int64_t start, start_field.AsInt(0, kMaxStrip));
  ASSIGN_OR_RETURN(JsonField stop_field, field.Get("stop"));
  ASSIGN_OR_RETURN(int64_t stop, stop_field.AsInt(0, kMaxStrip));
  return DecodeStrip{std::string(character), static_cast<size_t>(start), static_cast<size_t>(stop)};
}

}  // namespace

Decoder::Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;
Decoder::~Decoder() = default;

absl::Status Decoder::AddStep(const JsonField& field, Step step) {
  if (token_steps_.size() + text_steps_.size() >= kMaxSteps) {
    return field.Error(Concat("is one of more than ", kMaxSteps, " steps"));
  }
  (joined_ ? text_steps_ : token_steps_).push_back(std::move(step));
  return absl::OkStatus();
}

absl::Status Decoder::SetJoin(const JsonField& field, Join join) {
  if (joined_ && join == Join::kByteLevel) {
    return field.ErrorAt(".type", "is ByteLevel behind a step that joins the tokens");
  }
  if (!joined_) join_ = join;
  joined_ = true;
  return absl::OkStatus();
}

absl::Status Decoder::AddReplace(const JsonField& field) {
  ASSIGN_OR_RETURN(PatternField pattern, ParsePattern(field));
  ASSIGN_OR_RETURN(std::string_view content, field.GetString("content"));
  const double longer = pattern.is_regex ? 1.0 + static_cast<double>(content.size())
                                         : static_cast<double>(content.size()) /
                                               static_cast<double>(pattern.text.size());
  growth_ *= std::max(1.0, longer);
  if (growth_ > kMaxGrowth) {
    return field.Error(Concat("lets decoded text grow more than ", kMaxGrowth, " times"));
  }
  if (joined_ && (pattern.is_regex || pattern.text.size() > kMaxTextPattern)) {
    return field.ErrorAt(".pattern",
                         "is a regex, or too long, behind a step that joins the tokens");
  }
  if (!pattern.is_regex) {
    return AddStep(field, {DecodeReplaceText{std::string(pattern.text), std::string(content)}});
  }
  absl::StatusOr<Regex> regex = Regex::Compile(pattern.text);
  if (!regex.ok()) return field.ErrorAt(".pattern", Concat("is ", regex.status().message()));
  return AddStep(field, {DecodeReplaceRegex{*std::move(regex), std::string(content)}});
}

absl::Status Decoder::AddSteps(const JsonField& field, int depth) {
  if (depth > kMaxSequenceDepth) return field.Error("is nested too deeply");
  ASSIGN_OR_RETURN(std::string_view type, field.GetString("type"));
  if (type == "Sequence") {
    ASSIGN_OR_RETURN(JsonField list, field.Get("decoders"));
    ASSIGN_OR_RETURN(std::vector<JsonField> steps, list.AsArray());
    for (const JsonField& step : steps) RETURN_IF_ERROR(AddSteps(step, depth + 1));
    return absl::OkStatus();
  }
  if (type == "ByteLevel") return SetJoin(field, Join::kByteLevel);
  if (type == "Fuse") return SetJoin(field, Join::kPlain);
  if (type == "Replace") return AddReplace(field);
  if (type == "ByteFallback") {
    if (joined_) return field.ErrorAt(".type", "is ByteFallback behind a step that joins tokens");
    return AddStep(field, {DecodeByteFallback{}});
  }
  if (type == "Strip") {
    ASSIGN_OR_RETURN(DecodeStrip strip, ParseStrip(field));
    return AddStep(field, {std::move(strip)});
  }
  if (type == "Metaspace") {
    ASSIGN_OR_RETURN(Metaspace metaspace, ParseMetaspace(field));
    return AddStep(field, {std::move(metaspace)});
  }
  return field.ErrorAt(".type",
                       Concat("is ", QuoteForError(type), ", a decoder that is not supported"));
}

absl::StatusOr<Decoder> Decoder::Parse(const std::optional<JsonField>& field) {
  Decoder decoder;
  if (!field) return decoder;
  RETURN_IF_ERROR(decoder.AddSteps(*field, 0));
  if (!decoder.joined_) decoder.join_ = Join::kPlain;
  return decoder;
}

Decoder::State Decoder::Begin() const {
  State state;
  state.token_steps.resize(token_steps_.size());
  state.text_steps.resize(text_steps_.size());
  return state;
}

// A run of byte tokens is text if all of it is UTF-8, and one U+FFFD a byte if not; so nothing of
// it is certain before the run ends, but for the U+FFFDs once it has gone wrong.
void Decoder::PushByte(size_t step, char byte, State* state, std::string* out) const {
  State::Step& run = state->token_steps[step];
  run.text.push_back(byte);
  if (!run.decided) {
    switch (CheckUtf8Character(std::string_view(run.text).substr(run.held))) {
      case Utf8Check::kIncomplete:
        return;
      case Utf8Check::kWhole:
        run.held = run.text.size();
        return;
      case Utf8Check::kInvalid:
        run.decided = true;
    }
  }
  const size_t bytes = run.text.size();
  run.text.clear();
  for (size_t i = 0; i < bytes; ++i) {
    TokenFrom(step + 1, std::string(kReplacementCharacter), state, out);
  }
}

void Decoder::FinishBytes(size_t step, State* state, std::string* out) const {
  State::Step run = std::exchange(state->token_steps[step], State::Step());
  if (run.text.empty()) return;
  if (run.held == run.text.size()) {
    TokenFrom(step + 1, std::move(run.text), state, out);
    return;
  }
  for (size_t i = 0; i < run.text.size(); ++i) {
    TokenFrom(step + 1, std::string(kReplacementCharacter), state, out);
  }
}

void Decoder::TokenFrom(size_t step, std::string token, State* state, std::string* out) const {
  if (step < token_steps_.size()) {
    const auto& kind = token_steps_[step].kind;
    if (std::holds_alternative<DecodeByteFallback>(kind)) {
      if (const std::optional<char> byte = FallbackByte(token)) {
        return PushByte(step, *byte, state, out);
      }
      FinishBytes(step, state, out);
    } else if (const auto* replace = std::get_if<DecodeReplaceText>(&kind)) {
      token = DecodeToken(*replace, token);
    } else if (const auto* regex = std::get_if<DecodeReplaceRegex>(&kind)) {
      token = DecodeToken(*regex, token);
    } else if (const auto* strip = std::get_if<DecodeStrip>(&kind)) {
      token = DecodeToken(*strip, token);
    } else if (const auto* metaspace = std::get_if<Metaspace>(&kind)) {
      token = DecodeToken(*metaspace, token, state->token_steps[step].count++ == 0);
    }
    return TokenFrom(step + 1, std::move(token), state, out);
  }
  if (join_ == Join::kSpaces && state->tokens++ > 0) TextFrom(0, " ", state, out);
  if (join_ != Join::kByteLevel) return TextFrom(0, token, state, out);
  std::string bytes;
  // A token with a character outside the byte alphabet, an added one, is text already.
  if (!FromByteAlphabet(token, &bytes)) bytes = std::move(token);
  std::string text;
  state->repair.Push(bytes, &text);
  TextFrom(0, text, state, out);
}

void Decoder::TextFrom(size_t step, std::string_view text, State* state, std::string* out) const {
  if (step == text_steps_.size()) {
    out->append(text);
    return;
  }
  const auto& kind = text_steps_[step].kind;
  State::Step* memory = &state->text_steps[step];
  std::string next;
  if (const auto* replace = std::get_if<DecodeReplaceText>(&kind)) {
    next = DecodeText(*replace, text, memory);
  } else if (const auto* strip = std::get_if<DecodeStrip>(&kind)) {
    next = DecodeText(*strip, text, memory);
  } else {
    // To a Metaspace behind the joining all the text is one token, the first.
    next = DecodeToken(std::get<Metaspace>(kind), text, true);
  }
  TextFrom(step + 1, next, state, out);
}

void Decoder::Push(std::string_view token, State* state, std::string* out) const {
  TokenFrom(0, std::string(token), state, out);
}

void Decoder::Finish(State* state, std::string* out) const {
  for (size_t step = 0; step < token_steps_.size(); ++step) {
    if (std::holds_alternative<DecodeByteFallback>(token_steps_[step].kind)) {
      FinishBytes(step, state, out);
    }
  }
  std::string rest;
  state->repair.Finish(&rest);
  TextFrom(0, rest, state, out);
  for (size_t step = 0; step < text_steps_.size(); ++step) {
    TextFrom(step + 1, std::exchange(state->text_steps[step].text, std::string()), state, out);
  }
}

}  // namespace ballast
