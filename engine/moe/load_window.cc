#include "engine/moe/load_window.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/status.h"

namespace ballast {
namespace {

// The experts of steps with very few tokens differ so much that no placement can be ready for all.
constexpr double kMostVariation = 0.6;

void Decay(std::vector<float>& sums, double keep) {
  for (float& sum : sums) {
    sum *= static_cast<float>(keep);
  }
}

}  // namespace

LoadWindow::LoadWindow(const LoadWindowOptions& options) : options_(options) {
  CHECK(options.layers > 0 && options.experts > 0);
  CHECK(options.decay_steps > 0 && options.held_out_every > 1 && options.held_out_steps > 0);
  const size_t layers = static_cast<size_t>(options.layers);
  const size_t size = layers * static_cast<size_t>(options.experts);
  step_.assign(size, 0);
  for (Window& window : windows_) {
    window.rows.assign(size, 0);
    window.live.assign(size, 0);
    window.part.assign(size, 0);
    window.squares.assign(layers, 0);
    window.ring.assign(static_cast<size_t>(options.held_out_steps),
                       {options.experts, std::vector<int32_t>(size, 0), 0});
    window.at.assign(window.ring.size(), 0);
  }
}

void LoadWindow::Observe(int layer, std::span<const int64_t> rows) {
  CHECK(rows.size() == static_cast<size_t>(options_.experts));
  int64_t* sum = step_.data() + static_cast<size_t>(layer) * rows.size();
  for (const int64_t of_expert : rows) {
    *sum++ += of_expert;
  }
}

void LoadWindow::EndStep(int64_t prefill_rows, int64_t decode_rows) {
  const bool idle = std::all_of(step_.begin(), step_.end(), [](int64_t rows) { return rows == 0; });
  if (idle) {
    return;
  }
  ++steps_;
  Window& window = windows_[prefill_rows >= decode_rows ? 0 : 1];
  for (Window& of_phase : windows_) {
    const double here = &of_phase == &window ? 1 : 0;
    const int64_t steps = std::min<int64_t>(steps_, options_.decay_steps);
    of_phase.share += (here - of_phase.share) / static_cast<double>(steps);
  }
  // The first of every few are planned with: there is no use in judging before there is a plan.
  if (++window.seen % options_.held_out_every == 0) {
    HoldOut(window);
  } else {
    Plan(window);
  }
  std::fill(step_.begin(), step_.end(), 0);
}

void LoadWindow::Plan(Window& window) {
  const double keep = 1 - 1.0 / options_.decay_steps;
  window.steps = window.steps * keep + 1;
  Decay(window.rows, keep);
  Decay(window.live, keep);
  Decay(window.part, keep);
  Decay(window.squares, keep);
  const size_t experts = static_cast<size_t>(options_.experts);
  for (size_t layer = 0; layer < window.squares.size(); ++layer) {
    const int64_t* rows = step_.data() + layer * experts;
    const int64_t sum = std::accumulate(rows, rows + experts, int64_t{0});
    for (size_t expert = 0; expert < experts && sum > 0; ++expert) {
      const size_t at = layer * experts + expert;
      const float part = static_cast<float>(rows[expert]) / static_cast<float>(sum);
      window.rows[at] += static_cast<float>(rows[expert]);
      window.live[at] += rows[expert] > 0 ? 1 : 0;
      window.part[at] += part;
      window.squares[layer] += part * part;
    }
  }
}

void LoadWindow::HoldOut(Window& window) {
  StepLoad& step = window.ring[window.next];
  for (size_t i = 0; i < step_.size(); ++i) {
    step.rows[i] = static_cast<int32_t>(std::min<int64_t>(step_[i], INT32_MAX));
  }
  window.at[window.next] = steps_;
  window.next = (window.next + 1) % window.ring.size();
}

// Were all experts alike, the variance of an expert's share would be (variation / experts)^2; with
// variances that go with the load, their sum is the same.
double LoadWindow::Variation(const Window& window, int layer) const {
  const size_t experts = static_cast<size_t>(options_.experts);
  double variance = window.squares[layer] / window.steps;
  for (size_t expert = 0; expert < experts; ++expert) {
    const double mean = window.part[static_cast<size_t>(layer) * experts + expert] / window.steps;
    variance -= mean * mean;
  }
  const double variation = std::sqrt(std::max(0.0, variance) * static_cast<double>(experts));
  return std::min(variation, kMostVariation);
}

PlanningLoad LoadWindow::Planning(const CostParameters& costs) const {
  const size_t experts = static_cast<size_t>(options_.experts);
  PlanningLoad out{options_.experts, std::vector<int64_t>(step_.size(), 0),
                   std::vector<double>(static_cast<size_t>(options_.layers), 0)};
  // The last tile of an expert is half full on average.
  const double part_tile = 0.5 * (costs.tile_rows - 1) / costs.tile_rows;
  std::vector<double> cost(experts);
  for (int layer = 0; layer < options_.layers; ++layer) {
    const size_t begin = static_cast<size_t>(layer) * experts;
    std::fill(cost.begin(), cost.end(), 0);
    double sum = 0;
    double variation = 0;
    for (const Window& window : windows_) {
      double of_phase = 0;
      for (size_t expert = 0; expert < experts && window.steps > 0; ++expert) {
        const double live = window.live[begin + expert];
        const double tiles =
            window.rows[begin + expert] / static_cast<double>(costs.tile_rows) + live * part_tile;
        const double more = window.share / window.steps *
                            (live * costs.floor_cost + std::max(live, tiles) * costs.tile_cost);
        cost[expert] += more;
        of_phase += more;
      }
      sum += of_phase;
      variation += of_phase > 0 ? of_phase * Variation(window, layer) : 0;
    }
    if (sum > 0) {
      out.variation[layer] = variation / sum;
      for (size_t expert = 0; expert < experts; ++expert) {
        out.load[begin + expert] = std::llround(cost[expert] / sum * kPlanningUnits);
      }
    }
  }
  return out;
}

std::vector<StepLoad> LoadWindow::HeldOut(int64_t since) const {
  std::vector<StepLoad> out;
  double sum = 0;
  for (const Window& window : windows_) {
    const size_t first = out.size();
    for (size_t i = 0; i < window.ring.size(); ++i) {
      const size_t at = (window.next + i) % window.ring.size();
      if (window.at[at] > since) {
        out.push_back(window.ring[at]);
      }
    }
    for (size_t i = first; i < out.size(); ++i) {
      out[i].weight = window.share / static_cast<double>(out.size() - first);
      sum += out[i].weight;
    }
  }
  for (StepLoad& step : out) {
    step.weight /= sum;
  }
  return out;
}

}  // namespace ballast
