// How a KV block lies in memory: [block][kv head][keys | values], made so that scores and weighted
// sums are the panel products of inner_loops.h.
//   keys    one panel whose lanes are the 16 tokens and whose k is the head's dimension
//   values  one panel per 16 of the head's dimension, whose k is the 16 tokens
#pragma once

#include "kernels/cpu/panels.h"
#include "kernels/device.h"

namespace ballast::cpu {

static_assert(kKvBlockTokens == kLanes);

struct KvLayout {
  explicit KvLayout(const KvCache& cache)
      : value_panel_bytes(PanelBytes(cache.type, kKvBlockTokens)),
        value_panels(NumPanels(cache.v_dim)),
        key_bytes(PanelBytes(cache.type, cache.k_dim)),
        value_bytes(cache.v_in_k ? 0 : value_panels * value_panel_bytes),
        head_bytes(key_bytes + value_bytes),
        block_bytes(head_bytes * cache.kv_heads) {}

  int64_t value_panel_bytes;
  int64_t value_panels;
  int64_t key_bytes;
  int64_t value_bytes;  // 0 when values are read out of the keys
  int64_t head_bytes;
  int64_t block_bytes;
};

// Where element (lane, k) of a panel lies, in elements.
inline int64_t PanelElement(DType type, int64_t lane, int64_t k) {
  return type == DType::kF32 ? k * kLanes + lane : (k / 2 * kLanes + lane) * 2 + k % 2;
}

}  // namespace ballast::cpu
