// The attention of some model, for tests on any device.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/device.h"

namespace ballast {

struct AttentionModel {
  DType type = DType::kF32;
  int64_t heads = 1;
  int64_t kv_heads = 1;
  int64_t k_dim = 16;
  int64_t v_dim = 16;
  bool v_in_k = false;
  int32_t window = 0;
  bool sinks = false;
};

inline std::string Describe(const AttentionModel& m) {
  return std::string(NameOf(m.type)) + " heads " + std::to_string(m.heads) + "/" +
         std::to_string(m.kv_heads) + " dims " + std::to_string(m.k_dim) + "/" +
         std::to_string(m.v_dim) + (m.v_in_k ? " latent" : "") + " window " +
         std::to_string(m.window) + (m.sinks ? " sinks" : "");
}

}  // namespace ballast
