// Writing the paged KV cache.
#include <algorithm>

#include "kernels/cpu/kv_layout.h"
#include "kernels/cpu/number.h"
#include "kernels/cpu/stream.h"
#include "kernels/cpu/verbs.h"

namespace ballast::cpu {
namespace {

constexpr int64_t kElementsPerItem = 8192;

// One token's key and value at one head.
template <DType kType>
void WriteToken(const KvCache& cache, const KvLayout& layout, const float* key, const float* value,
                int64_t token, char* block) {
  for (int64_t d = 0; d < cache.k_dim; ++d) {
    StoreFloat(block, kType, PanelElement(kType, token, d), key[d]);
  }
  if (value == nullptr) return;
  for (int64_t first = 0; first < cache.v_dim; first += kLanes) {
    char* const panel = block + layout.key_bytes + first / kLanes * layout.value_panel_bytes;
    const int64_t lanes = std::min(kLanes, cache.v_dim - first);
    for (int64_t lane = 0; lane < lanes; ++lane) {
      StoreFloat(panel, kType, PanelElement(kType, lane, token), value[first + lane]);
    }
  }
}

}  // namespace

size_t KvBytes(const KvCache& cache) {
  return static_cast<size_t>(cache.blocks * KvLayout(cache).block_bytes);
}

// Slots that were never written are never used, so a block needs no clearing: attention leaves out
// whatever lies past a row's position.
void WriteKv(Stream stream, const KvCache& cache, HeadsView k, HeadsView v, const int32_t* slots) {
  const KvLayout layout(cache);
  const int64_t elements = cache.k_dim + (cache.v_in_k ? 0 : cache.v_dim);
  const int64_t units = k.rows * cache.kv_heads;
  const int64_t units_per_item = std::max<int64_t>(1, kElementsPerItem / elements);
  const auto write = [&](int64_t row, int64_t head) {
    const int64_t token = slots[row] % kKvBlockTokens;
    char* const block = static_cast<char*>(cache.data) +
                        slots[row] / kKvBlockTokens * layout.block_bytes + head * layout.head_bytes;
    const float* key =
        static_cast<const float*>(k.data) + row * k.row_stride + head * k.head_stride;
    const float* value = nullptr;
    if (!cache.v_in_k) {
      value = static_cast<const float*>(v.data) + row * v.row_stride + head * v.head_stride;
    }
    if (cache.type == DType::kF32) {
      WriteToken<DType::kF32>(cache, layout, key, value, token, block);
    } else {
      WriteToken<DType::kBF16>(cache, layout, key, value, token, block);
    }
  };
  StreamOf(stream).pool.For((units + units_per_item - 1) / units_per_item, [&](int64_t item, int) {
    const int64_t end = std::min(units, (item + 1) * units_per_item);
    for (int64_t unit = item * units_per_item; unit < end; ++unit) {
      write(unit % k.rows, unit / k.rows);
    }
  });
}

}  // namespace ballast::cpu
