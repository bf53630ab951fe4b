// What a layer's work costs on each rank: integers, so that every rank decides alike.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"

namespace ballast {

enum class BalanceMode {
  kOff,     // plain expert parallelism
  kAssign,  // split rows over the replicas that exist
  kSpill,   // and move excess rows together with their expert's weights
};

inline constexpr int32_t kNominalSpeed = 1024;

// The leader fits these (cost_model.h) and broadcasts them with a version. One cost unit is any
// fixed span of time at nominal speed; the cost model uses nanoseconds. A rank that runs `load`
// cost units takes load * 1024 / speed units of time.
struct CostParameters {
  int64_t version = 0;
  BalanceMode mode = BalanceMode::kAssign;
  int32_t tile_rows = 1;       // rows of one expert are computed in tiles of this many
  int32_t tile_cost = 1;       // cost of a tile, full or not
  int32_t floor_cost = 0;      // cost of reading the weights of an expert that has rows on a rank
  int32_t import_cost = 0;     // time a rank waits for the weights of an expert it does not hold
  int32_t export_cost = 0;     // time a rank spends on sending them
  int32_t max_imports = 0;     // scratch slots of a rank: experts it may import in a layer's step
  std::vector<int32_t> speed;  // [ranks] 1024: nominal, 512: half as fast; empty: all nominal
  bool force_spills = false;   // for tests: every rank lends an expert in every layer (ForceSpills)
};

// Limits that keep every product below 2^63: a load stays below 2^50 cost units.
inline constexpr int32_t kMinSpeed = 16;
inline constexpr int32_t kMaxSpeed = 16384;
inline constexpr int32_t kMaxTileCost = 1 << 24;
inline constexpr int32_t kMaxFloorCost = 1 << 28;
inline constexpr int64_t kMaxLoad = int64_t{1} << 50;

// InvalidArgument names the field, its value and its range.
absl::Status Validate(const CostParameters& costs, int ranks);

inline int32_t SpeedOf(const CostParameters& costs, int rank) {
  return costs.speed.empty() ? kNominalSpeed : costs.speed[rank];
}

// ceil(rows / tile_rows).
inline int64_t TilesOf(int64_t rows, int32_t tile_rows) {
  return tile_rows == 1 ? rows : (rows + tile_rows - 1) / tile_rows;
}

// Cost of `rows` rows of one expert on one rank; nothing for no rows.
inline int64_t CostOfRows(const CostParameters& costs, int64_t rows) {
  return rows == 0 ? 0 : costs.floor_cost + TilesOf(rows, costs.tile_rows) * costs.tile_cost;
}

// The least integer time in which a rank of that speed runs `load` cost units.
inline int64_t TimeOfLoad(int64_t load, int32_t speed) {
  return speed == kNominalSpeed ? load : (load * kNominalSpeed + speed - 1) / speed;
}

// The most cost units that a rank of that speed runs in `time`: the inverse of TimeOfLoad. Never
// above 2 * kMaxLoad.
int64_t LoadInTime(int64_t time, int32_t speed);

}  // namespace ballast
