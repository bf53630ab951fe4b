#include "engine/checkpoint/generation_config.h"

#include "engine/model/config_reader.h"

namespace ballast {
namespace {

std::optional<float> Float(ConfigReader& reader, std::string_view key, NumberRange range) {
  if (!reader.Has(key)) return std::nullopt;
  return static_cast<float>(reader.NumberOr(key, range.min, range));
}

std::optional<int> Integer(ConfigReader& reader, std::string_view key, IntRange range) {
  if (!reader.Has(key)) return std::nullopt;
  return reader.IntOr(key, range.min, range);
}

}  // namespace

absl::StatusOr<GenerationConfig> ParseGenerationConfig(std::string_view json) {
  ASSIGN_OR_RETURN(ConfigReader reader, ConfigReader::Parse("generation_config.json", json));
  // The smallest positive values stand for "above zero".
  constexpr double kTiny = 1e-6;
  constexpr IntRange kIds = {-1, 1 << 30};
  GenerationConfig config;
  config.defaults.temperature = Float(reader, "temperature", {0.0, 100.0});
  config.defaults.top_p = Float(reader, "top_p", {kTiny, 1.0});
  config.defaults.top_k = Integer(reader, "top_k", {-1, 1 << 24});
  config.defaults.min_p = Float(reader, "min_p", {0.0, 1.0});
  config.defaults.repetition_penalty = Float(reader, "repetition_penalty", {kTiny, 100.0});
  config.defaults.max_new_tokens = Integer(reader, "max_new_tokens", {1, 1 << 30});
  for (int id : reader.Ints("eos_token_id", kIds, 1024)) {
    if (id >= 0) config.eos_token_ids.push_back(id);
  }
  if (const std::vector<int> bos = reader.Ints("bos_token_id", kIds, 1024); !bos.empty()) {
    config.bos_token_id = bos[0];
  }
  RETURN_IF_ERROR(reader.status());
  return config;
}

}  // namespace ballast
