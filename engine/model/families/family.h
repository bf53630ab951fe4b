// What one model family has of its own: how its config.json is read and what its tensors are
// called. A family is one file next to this one and one row in table.cc.
#pragma once

#include <string>
#include <string_view>

#include "engine/model/config.h"
#include "engine/model/config_reader.h"

namespace ballast {

// Names of an MoE layer's tensors after "model.layers.N."; '#' stands for the expert's number.
struct ExpertNames {
  const char* router = nullptr;       // [experts, hidden]
  const char* router_bias = nullptr;  // [experts]; null when the family has none
  // Per expert: gate and up [intermediate, hidden], down [hidden, intermediate].
  const char* gate = nullptr;
  const char* up = nullptr;
  // Fused: gate_up [experts, 2 * intermediate, hidden], gate first; then `gate` and `up` are null
  // and `down` is [experts, hidden, intermediate].
  const char* gate_up = nullptr;
  const char* down = nullptr;
};

struct Family {
  const char* model_type;
  // What transformers assumes where config.json is silent.
  float default_rms_norm_eps;
  int default_max_position_embeddings;
  float default_rope_theta;
  // Reads everything but the keys that all families share. Errors stay in the reader.
  void (*read_config)(ConfigReader& reader, ModelConfig& config);
  // The ways its checkpoints are written; the first one whose tensors exist is taken.
  ExpertNames layouts[2];
};

extern const Family kDeepseekV3;
extern const Family kMixtral;
extern const Family kOlmoe;
extern const Family kQwen3Moe;

// Null when there is no such family.
const Family* FindFamily(std::string_view model_type);

// "deepseek_v3, mixtral, olmoe, qwen3_moe", for messages.
std::string FamilyNames();

}  // namespace ballast
