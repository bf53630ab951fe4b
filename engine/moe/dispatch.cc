#include "engine/moe/dispatch.h"

namespace ballast {

void SortBySlot(std::span<const int32_t> ids, int32_t k, std::span<const int32_t> slot_of_expert,
                int32_t slots, ExpertRows& out) {
  out.source.resize(ids.size());
  out.row_of.resize(ids.size());
  // Counts go in shifted by two, so that after placing the rows slot_begin[s + 1] has moved from
  // the begin of slot s to its end.
  out.slot_begin.assign(slots + 2, 0);
  for (const int32_t expert : ids) ++out.slot_begin[slot_of_expert[expert] + 2];
  for (int32_t slot = 0; slot < slots; ++slot) {
    out.slot_begin[slot + 2] += out.slot_begin[slot + 1];
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    const int32_t row = out.slot_begin[slot_of_expert[ids[i]] + 1]++;
    out.source[row] = static_cast<int32_t>(i) / k;
    out.row_of[i] = row;
  }
  out.slot_begin.pop_back();
}

}  // namespace ballast
