// generation_config.json: how the publisher would have the model sampled.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "engine/checkpoint/checkpoint.h"
#include "engine/status.h"

namespace ballast {

struct GenerationConfig {
  GenerationDefaults defaults;
  std::vector<int32_t> eos_token_ids;  // empty: the file does not say
  std::optional<int32_t> bos_token_id;
};

// INVALID_ARGUMENT for bad JSON and for values of a wrong type or out of range, by field name.
absl::StatusOr<GenerationConfig> ParseGenerationConfig(std::string_view json);

}  // namespace ballast
