#include "engine/moe/imbalance.h"

#include <algorithm>

#include "engine/status.h"

namespace ballast {

const Assignment& PredictLayer(std::span<const int32_t> expert_rows, const Replicas& replicas,
                               const CostParameters& costs, PredictionScratch& scratch) {
  const size_t experts = expert_rows.size();
  const size_t ranks = static_cast<size_t>(replicas.ranks);
  CHECK(experts == static_cast<size_t>(replicas.experts));
  scratch.rows.resize(ranks * experts);
  // What an even share leaves over begins at another rank for each expert, so that no rank gets
  // the rest of all.
  for (size_t expert = 0; expert < experts; ++expert) {
    const int32_t each = expert_rows[expert] / replicas.ranks;
    const size_t rest = static_cast<size_t>(expert_rows[expert] % replicas.ranks);
    for (size_t i = 0; i < ranks; ++i) {
      scratch.rows[(expert + i) % ranks * experts + expert] = each + (i < rest ? 1 : 0);
    }
  }
  Assign(scratch.rows, replicas, costs, scratch.assign, scratch.assignment);
  return scratch.assignment;
}

double PredictedImbalance(std::span<const LayerPlacement> placements,
                          std::span<const StepLoad> steps, const CostParameters& costs,
                          std::span<const int32_t> node) {
  CostParameters assigning = costs;
  if (costs.mode == BalanceMode::kSpill) {
    assigning.mode = BalanceMode::kAssign;
  }
  double sum = 0;
  double weight = 0;
  Replicas replicas;
  PredictionScratch scratch;
  for (size_t layer = 0; layer < placements.size(); ++layer) {
    bool built = false;
    for (const StepLoad& step : steps) {
      CHECK(step.rows.size() == placements.size() * static_cast<size_t>(step.experts));
      const std::span<const int32_t> rows = step.OfLayer(static_cast<int>(layer));
      double of_layer = 0;
      for (const int32_t count : rows) {
        of_layer += count;
      }
      if (of_layer == 0) {
        continue;
      }
      if (!built) {
        BuildReplicas(placements[layer], step.experts, node, replicas);
        built = true;
      }
      const Assignment& assignment = PredictLayer(rows, replicas, assigning, scratch);
      double times = 0;
      for (const int64_t time : assignment.rank_time) {
        times += static_cast<double>(time);
      }
      const double mean = times / replicas.ranks;
      sum += of_layer * step.weight * static_cast<double>(assignment.value) / mean;
      weight += of_layer * step.weight;
    }
  }
  return weight == 0 ? 1 : sum / weight;
}

int64_t CountSlotMoves(const LayerPlacement& from, const LayerPlacement& to) {
  CHECK(from.ranks == to.ranks);
  int64_t moves = 0;
  for (int rank = 0; rank < to.ranks; ++rank) {
    const std::vector<int> before = ExpertsOfRank(from, rank);
    const std::vector<int> after = ExpertsOfRank(to, rank);
    moves += std::count_if(after.begin(), after.end(), [&](int expert) {
      return expert >= 0 && std::find(before.begin(), before.end(), expert) == before.end();
    });
  }
  return moves;
}

int64_t CountSlotMoves(std::span<const LayerPlacement> from, std::span<const LayerPlacement> to) {
  CHECK(from.size() == to.size());
  int64_t moves = 0;
  for (size_t layer = 0; layer < to.size(); ++layer) {
    moves += CountSlotMoves(from[layer], to[layer]);
  }
  return moves;
}

}  // namespace ballast
