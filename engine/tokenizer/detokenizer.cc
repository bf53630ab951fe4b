#include <utility>

#include "engine/tokenizer/tokenizer_model.h"
#include "engine/tokenizer/utf8.h"

namespace ballast {

struct Detokenizer::State {
  Decoder::State decoder;
  std::string prompt_rest;  // decode(prompt) from where the prompt alone left its text uncertain
};

Detokenizer::Detokenizer(const Tokenizer& tokenizer, std::span<const int32_t> prompt)
    : tokenizer_(&tokenizer), state_(std::make_unique<State>()) {
  const Decoder& decoder = tokenizer.model_->decoder;
  state_->decoder = decoder.Begin();
  std::string text;
  for (int32_t id : prompt) {
    if (const auto token = tokenizer.model_->TextOf(id, true)) {
      decoder.Push(*token, &state_->decoder, &text);
      text.clear();
    }
  }
  Decoder::State ended = state_->decoder;
  decoder.Finish(&ended, &state_->prompt_rest);
}

Detokenizer::Detokenizer(Detokenizer&&) noexcept = default;
Detokenizer& Detokenizer::operator=(Detokenizer&&) noexcept = default;
Detokenizer::~Detokenizer() = default;

std::string Detokenizer::WithoutPrompt(std::string text) {
  std::string& rest = state_->prompt_rest;
  size_t common = 0;
  while (common < text.size() && common < rest.size()) {
    const size_t length = Utf8Length(text[common]);
    if (text.compare(common, length, rest, common, length) != 0) break;
    common += length;
  }
  if (common < text.size()) {
    rest.clear();
  } else {
    rest.erase(0, common);
  }
  return text.substr(common);
}

std::string Detokenizer::Append(int32_t token) {
  std::string text;
  if (const auto piece = tokenizer_->model_->TextOf(token, true)) {
    tokenizer_->model_->decoder.Push(*piece, &state_->decoder, &text);
  }
  return WithoutPrompt(std::move(text));
}

std::string Detokenizer::Flush() {
  std::string text;
  tokenizer_->model_->decoder.Finish(&state_->decoder, &text);
  return WithoutPrompt(std::move(text));
}

}  // namespace ballast
