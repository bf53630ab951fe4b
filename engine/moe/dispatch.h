// From routed tokens to rows sorted by the slot that runs them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ballast {

// A row is one token at one expert. Row order: by slot, then by (token, choice), so that it follows
// from the routing alone.
struct ExpertRows {
  std::vector<int32_t> source;      // [rows] the token whose hidden state the row takes
  std::vector<int32_t> row_of;      // [tokens * k] the row that a token's j-th choice became
  std::vector<int32_t> slot_begin;  // [slots + 1] rows [slot_begin[s], slot_begin[s+1]) are s's
};

// ids [tokens * k], slot_of_expert [experts]. Pure; reuses the vectors of `out`.
void SortBySlot(std::span<const int32_t> ids, int32_t k, std::span<const int32_t> slot_of_expert,
                int32_t slots, ExpertRows& out);

}  // namespace ballast
