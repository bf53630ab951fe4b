// What a Tokenizer is made of; for tokenizer.cc, tokenizer_parse.cc and detokenizer.cc alone.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/bpe.h"
#include "engine/tokenizer/decoder.h"
#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/post_processor.h"
#include "engine/tokenizer/pretokenizer.h"
#include "engine/tokenizer/tokenizer.h"

namespace ballast {

struct Tokenizer::Model {
  struct DecodedToken {
    std::string text;  // normalised where its AddedToken is
    bool special;
  };

  AddedTokenSplitter raw_tokens;  // not normalised: searched for in the text as it comes
  Normalizer normalizer;
  AddedTokenSplitter normalized_tokens;  // searched for in what the normaliser made
  PreTokenizer pretokenizer;
  std::unique_ptr<Bpe> bpe;
  PostProcessor post_processor;  // with BOS, where only tokenizer_config.json asks for it
  Decoder decoder;
  absl::flat_hash_map<int32_t, DecodedToken> added;
  int vocab_size;

  static absl::StatusOr<std::unique_ptr<Model>> Parse(std::string_view tokenizer_json,
                                                      std::string_view config_json);

  // What the decoder is given for `id`; nothing for unknown ids, and for special ones if skipped.
  std::optional<std::string_view> TextOf(int32_t id, bool skip_special_tokens) const;
};

}  // namespace ballast
