#include "engine/moe/cost_parameters.h"

#include "absl/strings/str_cat.h"

namespace ballast {
namespace {

absl::Status InRange(const char* field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("cost parameters: ", field, " is ", value, ", expected ", low, " to ", high));
}

}  // namespace

absl::Status Validate(const CostParameters& costs, int ranks) {
  absl::Status status;
  status.Update(InRange("tile_rows", costs.tile_rows, 1, INT32_MAX));
  status.Update(InRange("tile_cost", costs.tile_cost, 1, kMaxTileCost));
  status.Update(InRange("floor_cost", costs.floor_cost, 0, kMaxFloorCost));
  status.Update(InRange("import_cost", costs.import_cost, 0, INT32_MAX));
  status.Update(InRange("export_cost", costs.export_cost, 0, INT32_MAX));
  status.Update(InRange("max_imports", costs.max_imports, 0, INT32_MAX));
  if (!costs.speed.empty() && costs.speed.size() != static_cast<size_t>(ranks)) {
    status.Update(absl::InvalidArgumentError(absl::StrCat(
        "cost parameters: speed has ", costs.speed.size(), " ranks, expected ", ranks)));
  }
  for (const int32_t speed : costs.speed) {
    status.Update(InRange("speed", speed, kMinSpeed, kMaxSpeed));
  }
  return status;
}

int64_t LoadInTime(int64_t time, int32_t speed) {
  int64_t product = 0;
  if (__builtin_mul_overflow(time, int64_t{speed}, &product) ||
      product / kNominalSpeed > 2 * kMaxLoad) {
    return 2 * kMaxLoad;
  }
  return product / kNominalSpeed;
}

}  // namespace ballast
