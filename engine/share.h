// How sequences and a step's tokens are shared among ranks. Pure decisions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/kv_cache.h"
#include "engine/scheduler.h"

namespace ballast {

// The rank for a new sequence of these tokens: the one with the fewest tokens still to compute, the
// sequence's own counted in and its cached prefix left out (none with `reads_cache` false); on a
// tie the one with more blocks to give, then the lower number.
int32_t ChooseRank(std::span<const int32_t> tokens, std::string_view salt, bool reads_cache,
                   std::span<const Queues> queues, std::span<const BlockPool> pools);

// Cuts `step_tokens` over ranks that want `demand` tokens: nobody gets more than he wants while
// another lacks, and what is short is shared evenly, the lower rank first. Sums to at most
// step_tokens.
std::vector<int32_t> ShareTokens(std::span<const int64_t> demand, int32_t step_tokens);

// Tokens that a rank's sequences have still to compute.
int64_t PendingTokens(const Queues& queues);

}  // namespace ballast
