#include "engine/share.h"

#include <algorithm>
#include <tuple>

namespace ballast {

int64_t PendingTokens(const Queues& queues) {
  int64_t tokens = 0;
  for (const auto& sequence : queues.running) tokens += sequence->pending();
  for (const auto& sequence : queues.waiting) tokens += sequence->pending();
  return tokens;
}

int32_t ChooseRank(std::span<const int32_t> tokens, std::string_view salt, bool reads_cache,
                   std::span<const Queues> queues, std::span<const BlockPool> pools) {
  if (pools.size() == 1) return 0;
  const int32_t most_cached = (static_cast<int32_t>(tokens.size()) - 1) / kKvBlockTokens;
  std::tuple<int64_t, int32_t, int32_t> best;
  for (size_t rank = 0; rank < pools.size(); ++rank) {
    const size_t cached = reads_cache ? pools[rank].Lookup(tokens, salt, most_cached).size() : 0;
    const int64_t load =
        PendingTokens(queues[rank]) - static_cast<int64_t>(cached) * kKvBlockTokens;
    const std::tuple candidate(load, -pools[rank].available(), static_cast<int32_t>(rank));
    if (rank == 0 || candidate < best) best = candidate;
  }
  return std::get<2>(best);
}

std::vector<int32_t> ShareTokens(std::span<const int64_t> demand, int32_t step_tokens) {
  std::vector<int32_t> share(demand.size(), 0);
  int64_t left = step_tokens;
  while (left > 0) {
    int64_t hungry = 0;
    for (size_t r = 0; r < demand.size(); ++r) hungry += share[r] < demand[r];
    if (hungry == 0) break;
    const int64_t part = std::max<int64_t>(1, left / hungry);
    for (size_t r = 0; r < demand.size() && left > 0; ++r) {
      const int64_t more = std::min({part, left, demand[r] - share[r]});
      if (more <= 0) continue;
      share[r] += static_cast<int32_t>(more);
      left -= more;
    }
  }
  return share;
}

}  // namespace ballast
