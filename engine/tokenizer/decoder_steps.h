// What the steps of a decoder do to one token, or to the stream of text behind the joining.
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "engine/tokenizer/decoder.h"
#include "engine/tokenizer/metaspace.h"
#include "engine/tokenizer/regex.h"

namespace ballast {

struct DecodeByteFallback {};
struct DecodeReplaceText {
  std::string pattern;
  std::string content;
};
struct DecodeReplaceRegex {
  Regex pattern;
  std::string content;
};
struct DecodeStrip {
  std::string content;  // one character
  size_t start;         // at most so many are cut at the beginning,
  size_t stop;          // and so many at the end
};

struct Decoder::Step {
  std::variant<DecodeByteFallback, DecodeReplaceText, DecodeReplaceRegex, DecodeStrip, Metaspace>
      kind;
};

// A whole token through one step.
std::string DecodeToken(const DecodeReplaceText& step, std::string_view token);
std::string DecodeToken(const DecodeReplaceRegex& step, std::string_view token);
std::string DecodeToken(const DecodeStrip& step, std::string_view token);
// `first`: it is the first token.
std::string DecodeToken(const Metaspace& step, std::string_view token, bool first);

// The next part of a text through one step: returns what became certain.
std::string DecodeText(const DecodeReplaceText& step, std::string_view text,
                       Decoder::State::Step* state);
std::string DecodeText(const DecodeStrip& step, std::string_view text, Decoder::State::Step* state);

}  // namespace ballast
