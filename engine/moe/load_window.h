// What recent steps asked of the experts: the load that placements are planned for, and steps kept
// out of it to judge the plans by.
//
// A step's time follows from all its rows together, so a step counts whole, for the phase that most
// of its rows are of. The phases have windows of their own: hours of decode do not wash out what
// is known of prefill. Their plans' load is the mean cost of a step, each phase by its share of the
// recent steps. Rows are those of real tokens; whoever observes leaves dummy rows out.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/moe/cost_parameters.h"
#include "engine/moe/imbalance.h"

namespace ballast {

enum class Phase : uint8_t { kPrefill, kDecode };
inline constexpr size_t kPhases = 2;

struct LoadWindowOptions {
  int layers = 1;  // MoE layers
  int experts = 1;
  int decay_steps = 256;   // steps of a phase after which a step weighs 1/e of a new one
  int held_out_every = 8;  // one step of a phase in so many is held out, never planned with
  int held_out_steps = 8;  // the latest of them that are kept, per phase
};

// Pure given what it observed; one thread at a time. Memory is fixed at construction.
class LoadWindow {
 public:
  explicit LoadWindow(const LoadWindowOptions& options);

  // Adds rows [experts] of a MoE layer to the step at hand: once in all or once per rank.
  void Observe(int layer, std::span<const int64_t> rows);

  // Ends the step, which had so many rows (tokens) of each phase; even numbers count as prefill. A
  // step without rows in any layer counts for nothing.
  void EndStep(int64_t prefill_rows, int64_t decode_rows);

  int64_t steps() const { return steps_; }  // that counted

  // The expected cost of each expert in a step that is not held out, in an arbitrary unit: a
  // layer's loads sum to about kPlanningUnits; all 0 before the first step. load [experts].
  void PlanningLoad(int layer, const CostParameters& costs, std::span<int64_t> load) const;

  // The steps held out after the first `since` steps, oldest first within a phase; weights sum to 1
  // over all of them and give each phase its share of the recent steps.
  std::vector<StepLoad> HeldOut(int64_t since = 0) const;

 private:
  struct Window {
    double steps = 0;            // decayed
    int64_t seen = 0;            // all steps of the phase
    std::vector<float> rows;     // [layers, experts] decayed sums
    std::vector<float> live;     // [layers, experts] of steps in which the expert had rows
    std::vector<StepLoad> ring;  // held out
    std::vector<int64_t> at;     // [ring] the number of each step
    size_t next = 0;
    double share = 0;  // of the recent steps
  };

  LoadWindowOptions options_;
  std::array<Window, kPhases> windows_;
  std::vector<int64_t> step_;  // [layers, experts] the step at hand
  int64_t steps_ = 0;
};

inline constexpr int64_t kPlanningUnits = int64_t{1} << 32;

}  // namespace ballast
