#include "engine/load_counters.h"

#include <algorithm>

namespace ballast {

LoadCounters::LoadCounters(const std::vector<int>& moe_layers, int experts, int ranks)
    : last_(moe_layers.size(), std::vector<int64_t>(static_cast<size_t>(experts), 0)) {
  load_.rank_wait_seconds.resize(static_cast<size_t>(ranks));
  for (const int layer : moe_layers) {
    load_.layers.push_back({layer, std::vector<int64_t>(static_cast<size_t>(experts), 0),
                            std::vector<int64_t>(static_cast<size_t>(ranks), 0)});
  }
}

void LoadCounters::Add(const StepResult& result, int64_t tokens) {
  ++load_.steps;
  load_.tokens += tokens;
  for (size_t rank = 0; rank < result.ranks.size(); ++rank) {
    load_.rank_wait_seconds[rank] += result.ranks[rank].wait_seconds;
  }
  for (size_t layer = 0; layer < load_.layers.size(); ++layer) {
    LayerLoad& sums = load_.layers[layer];
    std::vector<int64_t>& last = last_[layer];
    std::fill(last.begin(), last.end(), 0);
    for (size_t rank = 0; rank < result.ranks.size(); ++rank) {
      const RankResult& own = result.ranks[rank];
      sums.rank_rows[rank] += own.run_rows[layer];
      const int64_t* rows = own.expert_rows.data() + layer * last.size();
      for (size_t expert = 0; expert < last.size(); ++expert) last[expert] += rows[expert];
    }
    for (size_t expert = 0; expert < last.size(); ++expert)
      sums.expert_rows[expert] += last[expert];
  }
}

}  // namespace ballast
