#include "engine/tokenizer/decoder_steps.h"

#include <algorithm>

#include "engine/tokenizer/utf8.h"

namespace ballast {

std::string DecodeToken(const DecodeReplaceText& step, std::string_view token) {
  return ReplaceAll(token, step.pattern, step.content);
}

std::string DecodeToken(const DecodeReplaceRegex& step, std::string_view token) {
  std::string out;
  size_t done = 0;
  RegexSearch search(step.pattern);
  search.Start(token);
  for (size_t begin, end; !token.empty() && search.Next(&begin, &end); done = end) {
    out.append(token, done, begin - done);
    out += step.content;
  }
  out.append(token, done);  // also where the regex's limits ended the search
  return out;
}

std::string DecodeToken(const DecodeStrip& step, std::string_view token) {
  for (size_t i = 0; i < step.start && token.starts_with(step.content); ++i) {
    token.remove_prefix(step.content.size());
  }
  for (size_t i = 0; i < step.stop && token.ends_with(step.content); ++i) {
    token.remove_suffix(step.content.size());
  }
  return std::string(token);
}

std::string DecodeToken(const Metaspace& step, std::string_view token, bool first) {
  const bool drop = first && step.prepend != Metaspace::Prepend::kNever;
  return ReplaceAll(token, step.replacement, drop ? "" : " ");
}

// Holds back an end of the text that may be the beginning of the pattern.
std::string DecodeText(const DecodeReplaceText& step, std::string_view text,
                       Decoder::State::Step* state) {
  const std::string all = state->text + std::string(text);
  std::string out;
  size_t done = 0;
  for (size_t at; (at = all.find(step.pattern, done)) != all.npos;) {
    out.append(all, done, at - done);
    out += step.content;
    done = at + step.pattern.size();
  }
  size_t hold = std::min(step.pattern.size() - 1, all.size() - done);
  while (hold > 0 && !all.ends_with(std::string_view(step.pattern).substr(0, hold))) --hold;
  out.append(all, done, all.size() - hold - done);
  state->text = all.substr(all.size() - hold);
  return out;
}

std::string DecodeText(const DecodeStrip& step, std::string_view text,
                       Decoder::State::Step* state) {
  std::string out;
  while (!text.empty()) {
    const std::string_view character = text.substr(0, Utf8Length(text[0]));
    text.remove_prefix(character.size());
    const bool matches = character == step.content;
    if (!state->decided && matches && state->count < step.start) {
      ++state->count;
      continue;
    }
    state->decided = true;
    if (matches && state->held < step.stop) {
      ++state->held;
      continue;
    }
    if (!matches) {
      for (; state->held > 0; --state->held) out += step.content;
    }
    out += character;
  }
  return out;
}

}  // namespace ballast
