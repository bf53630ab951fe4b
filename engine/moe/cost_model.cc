#include "engine/moe/cost_model.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "engine/status.h"

namespace ballast {
namespace {

constexpr int64_t kMaxLayers = 1024;  // timings of a step that are looked at
// Two timings make a line only when their tiles per live expert differ by this factor: below it,
// noise in the times swamps the slope.
constexpr double kLeastSpread = 1.25;
constexpr size_t kFewLines = 5;    // with fewer, what was restored stands
constexpr size_t kFewSteps = 3;    // likewise
constexpr double kMaxRatio = 1e5;  // tiles that one floor may cost
// What the speed of a rank that is not measured grows by in a step: from the least to the fastest
// within 12, so that with half a window of patience it takes 20.
constexpr double kHope = 1.45;
constexpr int kMaxPatience = 16;  // of the short one

double TilesPerExpert(const ExpertTiming& timing) {
  return static_cast<double>(timing.tiles) / timing.live_experts;
}

double SecondsPerTile(const ExpertTiming& timing, double ratio) {
  return timing.seconds / (ratio * timing.live_experts + static_cast<double>(timing.tiles));
}

double Median(std::vector<double>& numbers) {
  const auto middle = numbers.begin() + static_cast<ptrdiff_t>(numbers.size() / 2);
  std::nth_element(numbers.begin(), middle, numbers.end());
  return *middle;
}

bool Positive(double number) { return std::isfinite(number) && number > 0; }

bool Differs(int64_t a, int64_t b, double change) {
  return static_cast<double>(std::abs(a - b)) > change * static_cast<double>(std::max(a, b));
}

int32_t Nanoseconds(double seconds, int32_t low, int32_t high) {
  return static_cast<int32_t>(std::clamp(std::round(seconds * 1e9), double(low), double(high)));
}

}  // namespace

ExpertTiming TimingOf(std::span<const int32_t> rows, int32_t tile_rows, double seconds) {
  ExpertTiming timing;
  timing.seconds = seconds;
  for (const int32_t n : rows) {
    timing.live_experts += n > 0 ? 1 : 0;
    timing.tiles += TilesOf(n, tile_rows);
  }
  return timing;
}

CostModel::CostModel(const CostModelOptions& options)
    : options_(options), ranks_(static_cast<size_t>(options.ranks)) {
  CHECK(options.ranks > 0 && options.pace_window > 0 && options.ratio_window > 0);
  for (RankWindow& window : ranks_) {
    window.steps.reserve(static_cast<size_t>(options.pace_window));
    window.patience = ShortPatience();
  }
  lines_.reserve(static_cast<size_t>(options.ratio_window));
  layers_.reserve(kMaxLayers);
  numbers_.reserve(static_cast<size_t>(std::max(options.ratio_window, options.pace_window)));
}

absl::Status CostModel::Restore(const CostState& state) {
  if (state.speed.size() != ranks_.size()) {
    return absl::InvalidArgumentError(absl::StrCat("cost state: speed has ", state.speed.size(),
                                                   " ranks, expected ", ranks_.size()));
  }
  if (!Positive(state.tile_seconds)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cost state: tile_seconds is ", state.tile_seconds, ", expected a positive number"));
  }
  const double ratio = state.floor_seconds / state.tile_seconds;
  if (!std::isfinite(ratio) || ratio < 0 || ratio > kMaxRatio) {
    return absl::InvalidArgumentError(absl::StrCat("cost state: floor_seconds is ",
                                                   state.floor_seconds, ", expected 0 to ",
                                                   kMaxRatio * state.tile_seconds));
  }
  for (const double speed : state.speed) {
    if (!Positive(speed)) {
      return absl::InvalidArgumentError(
          absl::StrCat("cost state: speed is ", speed, ", expected a positive number"));
    }
  }
  prior_ratio_ = ratio;
  for (size_t rank = 0; rank < ranks_.size(); ++rank) {
    ranks_[rank].prior = state.tile_seconds / state.speed[rank];
  }
  return absl::OkStatus();
}

void CostModel::Observe(int rank, std::span<const ExpertTiming> layers) {
  CHECK(rank >= 0 && rank < options_.ranks);
  layers_.clear();
  for (const ExpertTiming& timing : layers) {
    if (timing.live_experts > 0 && timing.tiles > 0 && Positive(timing.seconds) &&
        layers_.size() < kMaxLayers) {
      layers_.push_back(timing);
    }
  }
  See(ranks_[rank], !layers_.empty());
  if (layers_.empty()) {
    return;
  }
  const auto middle = layers_.begin() + static_cast<ptrdiff_t>(layers_.size() / 2);
  const double ratio = Ratio();
  std::nth_element(layers_.begin(), middle, layers_.end(), [&](const auto& a, const auto& b) {
    return SecondsPerTile(a, ratio) < SecondsPerTile(b, ratio);
  });
  const ExpertTiming step = *middle;

  // Of the step's widest pair and the pair with the step before, the wider one.
  const auto [low, high] = std::minmax_element(
      layers_.begin(), layers_.end(),
      [](const auto& a, const auto& b) { return TilesPerExpert(a) < TilesPerExpert(b); });
  RankWindow& window = ranks_[rank];
  const size_t size = window.steps.size();
  const ExpertTiming before = size == 0 ? step : window.steps[(window.next + size - 1) % size];
  const auto spread = [](const ExpertTiming& a, const ExpertTiming& b) {
    return std::abs(std::log(TilesPerExpert(a) / TilesPerExpert(b)));
  };
  if (spread(*low, *high) >= spread(before, step)) {
    ObserveLine(*low, *high);
  } else {
    ObserveLine(before, step);
  }

  if (size < static_cast<size_t>(options_.pace_window)) {
    window.steps.push_back(step);
    window.next = window.steps.size() % static_cast<size_t>(options_.pace_window);
  } else {
    window.steps[window.next] = step;
    window.next = (window.next + 1) % size;
  }
}

void CostModel::See(RankWindow& window, bool measured) const {
  if (!measured) {
    window.unseen = std::min(window.unseen + 1, 2 * kMaxPatience * ShortPatience());
    return;
  }
  if (window.unseen >= window.patience) {
    window.patience = std::min(2 * window.patience, kMaxPatience * ShortPatience());
    window.steps.clear();
    window.next = 0;
    window.prior = 0;
  } else if (window.steps.size() == static_cast<size_t>(options_.pace_window)) {
    window.patience = ShortPatience();
  }
  window.unseen = 0;
}

double CostModel::Hope(const RankWindow& window, double speed) const {
  const int steps = window.unseen - window.patience;
  if (steps <= 0) {
    return speed;
  }
  constexpr double kLeast = static_cast<double>(kMinSpeed) / kNominalSpeed;
  return std::min(1.0, std::max(speed, kLeast) * std::pow(kHope, steps));
}

void CostModel::ObserveLine(const ExpertTiming& a, const ExpertTiming& b) {
  const double x = TilesPerExpert(a);
  const double y = TilesPerExpert(b);
  if (std::max(x, y) < kLeastSpread * std::min(x, y)) {
    return;
  }
  const double a_seconds = a.seconds / a.live_experts;
  const double b_seconds = b.seconds / b.live_experts;
  const double scale = 1 / (a_seconds + b_seconds);
  const double slope = (b_seconds - a_seconds) / (y - x);
  const Line line = {(a_seconds - slope * x) * scale, slope * scale};
  if (lines_.size() < static_cast<size_t>(options_.ratio_window)) {
    lines_.push_back(line);
  } else {
    lines_[next_line_] = line;
  }
  next_line_ = (next_line_ + 1) % static_cast<size_t>(options_.ratio_window);
}

double CostModel::Ratio() const {
  if (lines_.size() < kFewLines) {
    return prior_ratio_;
  }
  numbers_.clear();
  for (const Line& line : lines_) {
    numbers_.push_back(line.intercept);
  }
  const double intercept = Median(numbers_);
  numbers_.clear();
  for (const Line& line : lines_) {
    numbers_.push_back(line.slope);
  }
  const double slope = Median(numbers_);
  if (intercept <= 0) {
    return 0;
  }
  return slope <= 0 ? kMaxRatio : std::min(intercept / slope, kMaxRatio);
}

// 0: nothing is known.
double CostModel::Pace(int rank, double ratio) const {
  const RankWindow& window = ranks_[rank];
  if (window.steps.empty() || (window.steps.size() < kFewSteps && window.prior > 0)) {
    return window.prior;
  }
  numbers_.clear();
  for (const ExpertTiming& step : window.steps) {
    numbers_.push_back(SecondsPerTile(step, ratio));
  }
  return Median(numbers_);
}

CostState CostModel::state() const {
  const double ratio = Ratio();
  CostState state;
  for (int rank = 0; rank < options_.ranks; ++rank) {
    const double pace = Pace(rank, ratio);
    state.speed.push_back(pace);
    if (pace > 0 && (state.tile_seconds == 0 || pace < state.tile_seconds)) {
      state.tile_seconds = pace;
    }
  }
  for (size_t rank = 0; rank < ranks_.size(); ++rank) {
    double& speed = state.speed[rank];
    speed = Hope(ranks_[rank], speed > 0 ? state.tile_seconds / speed : 1);
  }
  state.floor_seconds = ratio * state.tile_seconds;
  return state;
}

bool CostModel::Publish(CostParameters& costs) const {
  const CostState now = state();
  if (now.tile_seconds == 0) {
    return false;
  }
  const int32_t tile = Nanoseconds(now.tile_seconds, 1, kMaxTileCost);
  const int32_t floor = Nanoseconds(now.floor_seconds, 0, kMaxFloorCost);
  const double change = options_.publish_change;
  // A floor is weighed against a tile: when it is a small part of one, its changes are too.
  bool changed = costs.tile_rows != options_.tile_rows || Differs(costs.tile_cost, tile, change) ||
                 Differs(costs.floor_cost + tile, floor + tile, change) ||
                 costs.speed.size() != ranks_.size();
  const auto speed_of = [&](size_t rank) {
    return std::max(kMinSpeed, static_cast<int32_t>(std::lround(now.speed[rank] * kNominalSpeed)));
  };
  for (size_t rank = 0; rank < ranks_.size() && !changed; ++rank) {
    changed = Differs(costs.speed[rank], speed_of(rank), change);
  }
  if (!changed) {
    return false;
  }
  costs.tile_rows = options_.tile_rows;
  costs.tile_cost = tile;
  costs.floor_cost = floor;
  costs.speed.resize(ranks_.size());
  for (size_t rank = 0; rank < ranks_.size(); ++rank) {
    costs.speed[rank] = speed_of(rank);
  }
  ++costs.version;
  return true;
}

double CostModel::Predict(int rank, int32_t live_experts, int64_t tiles) const {
  const double ratio = Ratio();
  return Pace(rank, ratio) * (ratio * live_experts + static_cast<double>(tiles));
}

}  // namespace ballast
