// Limits on what a tokenizer.json may say.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ballast {

// Sixteen times the largest vocabulary published; keeps arrays indexed by id small.
inline constexpr int32_t kMaxTokenId = (1 << 22) - 1;

// Nesting of Sequences in Sequences.
inline constexpr int kMaxSequenceDepth = 16;

// Steps of a normaliser, pre-tokenizer or decoder, Sequences taken apart. Texts pass the latter two
// by recursion.
inline constexpr size_t kMaxSteps = 64;

}  // namespace ballast
