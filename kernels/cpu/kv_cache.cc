// Writing the paged KV cache.
#include "kernels/cpu/kv_layout.h"
#include "kernels/cpu/number.h"
#include "kernels/cpu/stream.h"
#include "kernels/cpu/verbs.h"

namespace ballast::cpu {
namespace {

constexpr int64_t kElementsPerItem = 8192;

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
    char* const keys = static_cast<char*>(cache.data) +
                       slots[row] / kKvBlockTokens * layout.block_bytes + head * layout.head_bytes;
    const float* key =
        static_cast<const float*>(k.data) + row * k.row_stride + head * k.head_stride;
    for (int64_t d = 0; d < cache.k_dim; ++d) {
      StoreFloat(keys, cache.type, PanelElement(cache.type, token, d), key[d]);
    }
    if (cache.v_in_k) return;
    const float* value =
        static_cast<const float*>(v.data) + row * v.row_stride + head * v.head_stride;
    for (int64_t d = 0; d < cache.v_dim; ++d) {
      char* const panel = keys + layout.key_bytes + d / kLanes * layout.value_panel_bytes;
      StoreFloat(panel, cache.type, PanelElement(cache.type, d % kLanes, token), value[d]);
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
