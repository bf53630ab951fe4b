// The "decoder" of tokenizer.json: tokens in, text out, one token at a time.
//
// Hugging Face's decoders rewrite the whole list of tokens. Here each step gives on what no later
// token can change, so decoding a sequence as it grows and decoding it whole are one code path.
// Kinds: ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace, Sequence. Others are refused by
// name.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.h"
#include "engine/tokenizer/json_field.h"
#include "engine/tokenizer/utf8.h"

namespace ballast {

class Decoder {
 public:
  // Tokens are joined by spaces when `field` is absent.
  static absl::StatusOr<Decoder> Parse(const std::optional<JsonField>& field);

  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;
  ~Decoder();

  // Where one sequence stands. Copies go on separately.
  struct State {
    // One step's memory; each kind uses what it needs.
    struct Step {
      size_t count = 0;      // tokens seen (Metaspace), characters stripped (Strip)
      size_t held = 0;       // characters held back (Strip), bytes that are whole (ByteFallback)
      std::string text;      // text held back (Replace), the run of bytes (ByteFallback)
      bool decided = false;  // past the start (Strip), known to be invalid (ByteFallback)
    };
    std::vector<Step> token_steps;
    std::vector<Step> text_steps;
    size_t tokens = 0;  // that came to be joined
    Utf8Repair repair;
  };
  State Begin() const;

  // Appends to `out` the text that became certain, always whole characters.
  void Push(std::string_view token, State* state, std::string* out) const;
  // The rest, once no token follows.
  void Finish(State* state, std::string* out) const;

 private:
  // Steps before the tokens are joined see tokens; steps behind see text.
  enum class Join { kSpaces, kPlain, kByteLevel };
  struct Step;

  Decoder();
  absl::Status AddSteps(const JsonField& field, int depth);
  absl::Status AddReplace(const JsonField& field);
  absl::Status AddStep(const JsonField& field, Step step);
  absl::Status SetJoin(const JsonField& field, Join join);

  void TokenFrom(size_t step, std::string token, State* state, std::string* out) const;
  void TextFrom(size_t step, std::string_view text, State* state, std::string* out) const;
  void PushByte(size_t step, char byte, State* state, std::string* out) const;
  void FinishBytes(size_t step, State* state, std::string* out) const;

  std::vector<Step> token_steps_;
  std::vector<Step> text_steps_;
  Join join_ = Join::kSpaces;
  bool joined_ = false;  // while parsing: further steps are text steps
  double growth_ = 1;    // while parsing: how much longer than the tokens the text may be
};

}  // namespace ballast
