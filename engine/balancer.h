// Balancing while serving: learns what experts cost and what load they get, plans placements in the
// background, brings them into force between steps, and watches what they did.
//
// The loop thread reports steps and takes changes that are ready; a worker thread plans and moves
// weights. A change goes: moves into spare buffers (paced by a byte budget, while steps run on the
// old placement) -> staged -> the next step's plan names it -> in force on all ranks. No step
// waits.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/balance_state.h"
#include "engine/balancing.h"
#include "engine/engine.h"
#include "engine/load_counters.h"
#include "engine/moe/cost_model.h"
#include "engine/moe/load_window.h"
#include "engine/moe/replan.h"
#include "engine/moe/slot_moves.h"
#include "engine/world.h"

namespace ballast {

struct BalancerOptions {
  std::string mode = "full";    // off, observe, assign, spill, full
  CostParameters costs;         // what is not fitted: mode, tile_rows, imports, test options
  double replan_interval = 10;  // s between plans
  int64_t replan_steps = 128;   // and at least so many steps of load
  int64_t watch_steps = 512;    // after which a change is judged
  int64_t move_bytes_per_second = 256 << 20;
  double stuck_move = 30;            // s after which a move is reported
  ReplanOptions replan;              // node, caps
  std::string state_file;            // empty: nothing is kept
  std::string fingerprint;           // written into it
  std::optional<CostState> learned;  // by an earlier run
};

// What is balanced.
struct BalancedModel {
  int experts = 0;
  std::vector<int> moe_layers;
  std::vector<LayerPlacement> placement;  // [layers of the model]
  int64_t expert_bytes = 0;               // packed
};

class Balancer {
 public:
  // `wake` makes the loop run a step soon, with rows or without; any thread.
  Balancer(World& world, BalancedModel model, BalancerOptions options, EngineEvents events,
           std::function<void()> wake);
  // The loop must have ended.
  ~Balancer();

  // --- the loop thread --------------------------------------------------------------------------
  // Whether a change waits for a step.
  bool HasChange() const;
  // Adds to the plan: placement, changes, costs.
  void BeforeStep(StepPlan& plan);
  // What the step did. An error ends all balancing.
  void AfterStep(const absl::Status& status, const StepPlan& plan, const StepResult& result,
                 int64_t prefill_rows, int64_t decode_rows);

  // --- any thread; as in engine.h ----------------------------------------------------------------
  ExpertLoad Load() const;
  PlacementState Placement() const;
  void Apply(PlacementRequest request, PlacementCallback done);
  BalancingState SetPaused(bool paused);
  BalancingState State() const;

 private:
  using Clock = std::chrono::steady_clock;
  using Changes = std::vector<LayerChange>;
  struct ApplyJob {
    Changes changes;
    PlacementCallback done;
    PlacementChange answer;
  };
  // A replan that must prove itself.
  struct Watch {
    std::vector<LayerPlacement> before;  // [MoE layers]
    int64_t since = 0;                   // steps of the window when it came into force
  };
  // What plans are made of; copied from under the lock.
  struct LoadCopy {
    PlanningLoad planning;
    std::vector<StepLoad> held_out;
    CostParameters costs;
    int64_t steps = 0;
  };

  absl::Status CheckRequest(const PlacementRequest& request, Changes& changes) const;
  PlacementChange Predict(const Changes& changes) const;
  std::vector<LayerPlacement> MoePlacement() const;
  LoadCopy CopyLoad(int64_t since) const;

  // The worker.
  void Work();
  void RunApply(ApplyJob job);
  void Replan();
  void JudgeReplan();
  absl::Status RunChanges(const Changes& changes, MoveCause cause);
  absl::Status RunMoves(const std::vector<SlotMove>& moves, bool paced);
  absl::Status Commit(Changes changes, MoveCause cause, int64_t moves);
  void Notice(bool warning, const std::string& text) const;
  void NoticeEndedEarly(const std::string& what, const absl::Status& status);
  void RestoreCosts(const CostState& learned);
  void SaveState() const;

  World& world_;
  const BalancedModel model_;
  const BalancerOptions options_;
  const EngineEvents events_;
  const std::function<void()> wake_;
  const bool plans_;  // replans are computed
  const bool acts_;   // and carried out

  mutable std::mutex load_mutex_;
  CostModel cost_model_;   // guarded by load_mutex_
  CostParameters costs_;   // guarded by load_mutex_
  LoadWindow window_;      // guarded by load_mutex_
  LoadCounters counters_;  // guarded by load_mutex_

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  PlacementState placement_;                     // guarded by mutex_
  Changes staged_;                               // guarded by mutex_; empty: none
  MoveCause staged_cause_ = MoveCause::kReplan;  // guarded by mutex_
  int64_t staged_moves_ = 0;                     // guarded by mutex_
  int64_t slot_moves_ = 0;                       // guarded by mutex_; of all commits
  std::optional<ApplyJob> apply_;                // guarded by mutex_; asked for, or running
  bool applying_ = false;                        // guarded by mutex_
  std::vector<uint8_t> pinned_;                  // [layers] guarded by mutex_
  bool paused_ = false;                          // guarded by mutex_
  bool stop_ = false;                            // guarded by mutex_
  absl::Status failure_;                         // guarded by mutex_; why no step can run
  std::optional<Clock::time_point> move_began_;  // guarded by mutex_
  bool move_reported_ = false;                   // guarded by mutex_

  // The worker's alone.
  Clock::time_point last_replan_;
  int64_t last_replan_steps_ = 0;
  std::optional<Watch> watch_;
  Clock::time_point next_move_;

  std::thread worker_;  // last: it uses all the others
};

}  // namespace ballast
