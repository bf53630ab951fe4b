// config.json, generation_config.json and model.safetensors.index.json, the first byte choosing
// which. A config that is accepted must give frequencies and counts that are finite and bounded.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "engine/checkpoint/generation_config.h"
#include "engine/checkpoint/shard_index.h"
#include "engine/model/config.h"

namespace {

void CheckConfig(const ballast::ModelConfig& config) {
  if (config.heads < 1 || config.kv_heads < 1 || config.heads % config.kv_heads != 0) std::abort();
  if (config.experts_per_token < 1 || config.experts_per_token > config.experts) std::abort();
  if (config.is_moe.size() != static_cast<size_t>(config.layers)) std::abort();
  if (!std::isfinite(config.attention_scale)) std::abort();
  const ballast::RopeFrequencies rope = ballast::ComputeRopeFrequencies(config.rope);
  if (!std::isfinite(rope.magnitude)) std::abort();
  for (float inverse : rope.inverse) {
    if (!std::isfinite(inverse)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // Seeds are plain config.json files, which begin with '{' or a space.
  if (size > 0 && data[0] == 'g') {
    (void)ballast::ParseGenerationConfig(text.substr(1));
  } else if (size > 0 && data[0] == 'i') {
    (void)ballast::ParseShardIndex("fuzz", text.substr(1));
  } else if (const auto config = ballast::ParseModelConfig(text); config.ok()) {
    CheckConfig(*config);
  }
  return 0;
}
