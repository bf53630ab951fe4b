// The "post_processor" of tokenizer.json, for one sequence: special tokens before and after it.
//
// Kinds: TemplateProcessing, ByteLevel (which moves offsets only), Sequence. Others are refused by
// name.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/status.h"
#include "engine/tokenizer/json_field.h"

namespace ballast {

struct PostProcessor {
  std::vector<int32_t> before;
  std::vector<int32_t> after;

  static absl::StatusOr<PostProcessor> Parse(const std::optional<JsonField>& field);

  void Apply(std::vector<int32_t>* ids) const;
};

}  // namespace ballast
