// Limits on what a tokenizer.json may say.
#pragma once

#include <cstdint>

namespace ballast {

// Sixteen times the largest vocabulary published; keeps arrays indexed by id small.
inline constexpr int32_t kMaxTokenId = (1 << 22) - 1;

// Nesting of Sequences in Sequences.
inline constexpr int kMaxSequenceDepth = 16;

}  // namespace ballast
