#include "engine/moe/bounds.h"

#include <algorithm>

#include "engine/status.h"

namespace ballast {

int64_t FreePlacementBound(std::span<const int32_t> expert_rows, const CostParameters& costs,
                           int ranks) {
  int64_t load = 0;
  for (const int32_t rows : expert_rows) {
    load += CostOfRows(costs, rows);
  }
  int64_t speeds = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    speeds += SpeedOf(costs, rank);
  }
  CHECK(speeds > 0);
  return (load * kNominalSpeed + speeds - 1) / speeds;
}

int64_t SlotBound(std::span<const int64_t> expert_load, int ranks, int slots) {
  if (expert_load.size() > static_cast<size_t>(slots)) {
    return -1;
  }
  int64_t sum = 0;
  int64_t most = 0;
  for (const int64_t load : expert_load) {
    sum += load;
    most = std::max(most, load);
  }
  const auto fits = [&](int64_t time) {
    int64_t needed = 0;
    for (const int64_t load : expert_load) {
      needed += std::max<int64_t>(1, (load + time - 1) / time);
    }
    return needed <= slots;
  };
  int64_t low = (sum + ranks - 1) / ranks;
  int64_t high = std::max(low, most);
  if (high == 0) {
    return 0;
  }
  while (low < high) {
    const int64_t time = low + (high - low) / 2;
    if (fits(time)) {
      high = time;
    } else {
      low = time + 1;
    }
  }
  return low;
}

}  // namespace ballast
