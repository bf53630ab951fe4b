// What recent steps asked of the experts: the load that placements are planned for, and steps kept
// out of it to judge the plans by.
//
// A step's time follows from all its rows together, so a step counts whole, for the phase that most
// of its rows are of. The phases have windows of their own: a long time of decode does not wash out
// what is known of prefill. A plan's load is the mean cost of a step, each phase by its share of
// the recent steps. Rows are those of real tokens; whoever observes leaves dummy rows out.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/cost_parameters.h"
#include "engine/moe/imbalance.h"

namespace ballast {

struct LoadWindowOptions {
  int layers = 1;  // MoE layers
  int experts = 1;
  int decay_steps = 256;   // steps of a phase after which a step weighs 1/e of a new one
  int held_out_every = 8;  // at least 2: one step of a phase in so many is never planned with
  int held_out_steps = 8;  // the latest of those that are kept, per phase
};

// A layer's loads sum to about this.
inline constexpr int64_t kPlanningUnits = int64_t{1} << 32;

// What a plan is made for; without load, all zero.
struct PlanningLoad {
  int experts = 0;
  std::vector<int64_t> load;      // [MoE layers, experts] expected cost in a step
  std::vector<double> variation;  // [MoE layers] LayerReplanOptions::variation

  int layers() const { return static_cast<int>(variation.size()); }
  std::span<const int64_t> OfLayer(int layer) const {
    return std::span(load).subspan(static_cast<size_t>(layer) * static_cast<size_t>(experts),
                                   static_cast<size_t>(experts));
  }
};

// Pure given what it observed; one thread at a time. Memory is fixed at construction.
class LoadWindow {
 public:
  explicit LoadWindow(const LoadWindowOptions& options);

  // Adds rows [experts] of a MoE layer to the step at hand: of all ranks at once or one by one.
  void Observe(int layer, std::span<const int64_t> rows);

  // Ends the step, which had so many rows (tokens) of each phase; as many of both count as prefill.
  // A step in which no expert had rows counts for nothing.
  void EndStep(int64_t prefill_rows, int64_t decode_rows);

  int64_t steps() const { return steps_; }  // that counted

  // Only the costs of tiles and floors matter.
  PlanningLoad Planning(const CostParameters& costs) const;

  // The steps held out after the first `since` steps, oldest first within a phase. Their weights
  // sum to 1 and give each phase that has any its share of the recent steps.
  std::vector<StepLoad> HeldOut(int64_t since = 0) const;

 private:
  struct Window {
    double share = 0;            // of the recent steps are of this phase
    int64_t seen = 0;            // steps of this phase
    double steps = 0;            // decayed, as all sums: steps planned with
    std::vector<float> rows;     // [layers, experts]
    std::vector<float> live;     // [layers, experts] steps in which it had rows
    std::vector<float> part;     // [layers, experts] its share of its layer's rows
    std::vector<float> squares;  // [layers] of those shares
    std::vector<StepLoad> ring;  // held out
    std::vector<int64_t> at;     // [ring] the number of the step; 0: none yet
    size_t next = 0;
  };

  void Plan(Window& window);
  void HoldOut(Window& window);
  double Variation(const Window& window, int layer) const;

  LoadWindowOptions options_;
  std::array<Window, 2> windows_;  // prefill, decode
  std::vector<int64_t> step_;      // [layers, experts] the step at hand
  int64_t steps_ = 0;
};

}  // namespace ballast
