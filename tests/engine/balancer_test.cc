#include "engine/balancer.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Two ranks, eight experts, model layers 1 and 2 of three have them.
constexpr int kRanks = 2;
constexpr int kExperts = 8;

// Moves succeed at once, unless told otherwise.
class FakeWorld : public World {
 public:
  int size() const override { return kRanks; }
  absl::Status RunStep(const StepPlan&, StepResult&) override { return absl::OkStatus(); }
  absl::Status Move(const SlotMove& move) override {
    std::unique_lock lock(mutex_);
    moves_.push_back(move);
    moved_.notify_all();
    moved_.wait(lock, [this] { return !hold_; });
    return answer_;
  }
  absl::Status DropMoves() override {
    const std::lock_guard lock(mutex_);
    ++drops_;
    return absl::OkStatus();
  }
  uint64_t heartbeat() const override { return 0; }

  void FailMoves(absl::Status status) {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(status);
  }
  // Moves begin and do not end.
  void Hold(bool hold) {
    const std::lock_guard lock(mutex_);
    hold_ = hold;
    moved_.notify_all();
  }
  void AwaitMove() {
    std::unique_lock lock(mutex_);
    moved_.wait(lock, [this] { return !moves_.empty(); });
  }
  std::vector<SlotMove> moves() const {
    const std::lock_guard lock(mutex_);
    return moves_;
  }
  int drops() const {
    const std::lock_guard lock(mutex_);
    return drops_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable moved_;
  std::vector<SlotMove> moves_;
  absl::Status answer_;
  bool hold_ = false;
  int drops_ = 0;
};

BalancedModel TwoMoeLayers(int slots_per_rank) {
  BalancedModel model;
  model.experts = kExperts;
  model.moe_layers = {1, 2};
  model.placement.resize(3);
  model.placement[1] = model.placement[2] = EvenPlacement(kExperts, kRanks, slots_per_rank);
  model.expert_bytes = 100;
  return model;
}

// The answer of an apply, once it is there.
class Answer {
 public:
  PlacementCallback Callback() {
    return [this](absl::StatusOr<PlacementChange> answer) {
      answer_ = std::move(answer);
      there_ = true;
    };
  }
  bool there() const { return there_; }
  const absl::StatusOr<PlacementChange>& get() const { return answer_; }

 private:
  absl::StatusOr<PlacementChange> answer_;
  std::atomic<bool> there_{false};
};

class BalancerTest : public testing::Test {
 protected:
  void Start(BalancerOptions options, int slots_per_rank = 5) {
    EngineEvents events;
    events.on_placement = [this](const PlacementReport& report) {
      reports_.push_back(report.slot_moves);
    };
    events.on_notice = [this](bool warning, const std::string& text) {
      const std::lock_guard lock(mutex_);
      (warning ? warnings_ : notices_) += text + "\n";
    };
    balancer_ = std::make_unique<Balancer>(world_, TwoMoeLayers(slots_per_rank), std::move(options),
                                           std::move(events), [this] { ++wakes_; });
  }

  // A step in which expert e of each layer gets rows[e] and rank r takes seconds[r].
  void Step(const std::vector<int64_t>& rows, const std::vector<double>& seconds,
            const absl::Status& status = absl::OkStatus()) {
    balancer_->BeforeStep(plan_);
    StepResult result;
    result.ranks.resize(kRanks);
    for (int rank = 0; rank < kRanks; ++rank) {
      RankResult& own = result.ranks[rank];
      for (int layer = 0; layer < 2; ++layer) {
        for (const int64_t count : rows) own.expert_rows.push_back(rank == 0 ? count : 0);
        own.run_rows.push_back(10);
        own.timings.push_back({4, 10 + 7 * layer, seconds[rank] * (14 + 7 * layer)});
      }
    }
    balancer_->AfterStep(status, plan_, result, 20, 0);
  }
  void Step() { Step(std::vector<int64_t>(kExperts, 2), {1e-6, 1e-6}); }

  // Steps go on until `done`; false when it does not come.
  template <typename Done>
  bool StepUntil(const Done& done) {
    for (int i = 0; i < 20000 && !done(); ++i) {
      Step();
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
    return done();
  }
  std::string notices() {
    const std::lock_guard lock(mutex_);
    return notices_;
  }
  std::string warnings() {
    const std::lock_guard lock(mutex_);
    return warnings_;
  }

  // Experts 0 and 1 of layer 1 change places.
  PlacementRequest Swapped() {
    PlacementRequest request;
    request.layers.resize(3);
    request.layers[1] = EvenPlacement(kExperts, kRanks, 4);
    std::swap(request.layers[1].slot_expert[0], request.layers[1].slot_expert[4]);
    return request;
  }

  FakeWorld world_;
  std::vector<int64_t> reports_;
  std::atomic<int> wakes_{0};
  StepPlan plan_;
  std::unique_ptr<Balancer> balancer_;

 private:
  std::mutex mutex_;
  std::string warnings_;  // guarded by mutex_
  std::string notices_;   // likewise
};

BalancerOptions Assigning() {
  BalancerOptions options;
  options.mode = "assign";
  return options;
}

TEST_F(BalancerTest, AnAppliedPlacementMovesWhatIsNewAndTakesForceWithAStep) {
  Start(Assigning(), 4);
  Answer answer;
  balancer_->Apply(Swapped(), answer.Callback());
  ASSERT_TRUE(StepUntil([&] { return answer.there(); }));
  ASSERT_TRUE(answer.get().ok()) << answer.get().status();
  EXPECT_EQ(answer.get()->version, 2);
  EXPECT_EQ(answer.get()->slot_moves, 2);
  EXPECT_EQ(answer.get()->bytes, 200);
  EXPECT_THAT(world_.moves(), ElementsAre(SlotMove{1, 4, 1, 0}, SlotMove{1, 0, 0, 1}));
  EXPECT_EQ(balancer_->Placement().version, 2);
  EXPECT_EQ(balancer_->Placement().layers[1].slot_expert, Swapped().layers[1].slot_expert);
  EXPECT_THAT(reports_, ElementsAre(2));
  EXPECT_GE(wakes_, 1);
  // The step that brought it names it, later ones do not.
  Step();
  EXPECT_EQ(plan_.placement_version, 2);
  EXPECT_THAT(plan_.changes, IsEmpty());
}

TEST_F(BalancerTest, ADryRunMovesNothing) {
  Start(Assigning(), 4);
  Answer answer;
  PlacementRequest request = Swapped();
  request.dry_run = true;
  balancer_->Apply(std::move(request), answer.Callback());
  ASSERT_TRUE(answer.there());
  EXPECT_EQ(answer.get()->slot_moves, 2);
  EXPECT_EQ(answer.get()->version, 1);
  Step();
  EXPECT_THAT(world_.moves(), IsEmpty());
  EXPECT_EQ(balancer_->Placement().version, 1);
}

TEST_F(BalancerTest, WhatCannotBeAppliedIsRefusedWithTheReason) {
  Start(Assigning(), 4);
  const auto refusal = [&](PlacementRequest request) {
    Answer answer;
    balancer_->Apply(std::move(request), answer.Callback());
    EXPECT_TRUE(answer.there());
    return answer.get().status();
  };
  PlacementRequest stale = Swapped();
  stale.expected_version = 7;
  EXPECT_EQ(refusal(stale).code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(refusal(stale).message()), HasSubstr("found 7, version 1"));

  PlacementRequest short_list = Swapped();
  short_list.layers.pop_back();
  EXPECT_EQ(refusal(short_list).code(), absl::StatusCode::kInvalidArgument);

  PlacementRequest dense = Swapped();
  dense.layers[0] = dense.layers[1];
  EXPECT_THAT(std::string(refusal(dense).message()), HasSubstr("layer 0"));

  PlacementRequest wide = Swapped();
  wide.layers[1] = EvenPlacement(kExperts, kRanks, 5);
  EXPECT_THAT(std::string(refusal(wide).message()),
              HasSubstr("placement.layers.slots_per_rank: found 5 in layer 1, expected "));
  EXPECT_TRUE(refusal(wide).GetPayload(kFieldPayload).has_value());

  PlacementRequest twice = Swapped();
  twice.layers[1].slot_expert[0] = twice.layers[1].slot_expert[1];
  EXPECT_EQ(refusal(twice).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(world_.moves(), IsEmpty());
}

TEST_F(BalancerTest, ASecondApplyIsAbortedWhileOneRuns) {
  Start(Assigning(), 4);
  world_.Hold(true);
  Answer first;
  balancer_->Apply(Swapped(), first.Callback());
  world_.AwaitMove();
  Answer second;
  balancer_->Apply(Swapped(), second.Callback());
  ASSERT_TRUE(second.there());
  EXPECT_EQ(second.get().status().code(), absl::StatusCode::kAborted);
  world_.Hold(false);
  ASSERT_TRUE(StepUntil([&] { return first.there(); }));
  EXPECT_TRUE(first.get().ok());
}

TEST_F(BalancerTest, AMoveThatFailsLeavesThePlacementAsItWas) {
  Start(Assigning(), 4);
  world_.FailMoves(absl::ResourceExhaustedError("no spare buffer"));
  Answer answer;
  balancer_->Apply(Swapped(), answer.Callback());
  ASSERT_TRUE(StepUntil([&] { return answer.there(); }));
  EXPECT_EQ(answer.get().status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(balancer_->Placement().version, 1);
  EXPECT_EQ(world_.drops(), 1);
  // And the next one is taken.
  world_.FailMoves(absl::OkStatus());
  Answer next;
  balancer_->Apply(Swapped(), next.Callback());
  ASSERT_TRUE(StepUntil([&] { return next.there(); }));
  EXPECT_TRUE(next.get().ok()) << next.get().status();
}

TEST_F(BalancerTest, AStepThatFailsFailsTheApplyThatWaitsForIt) {
  Start(Assigning(), 4);
  world_.Hold(true);
  Answer answer;
  balancer_->Apply(Swapped(), answer.Callback());
  world_.AwaitMove();
  Step(std::vector<int64_t>(kExperts, 2), {1e-6, 1e-6}, absl::UnavailableError("rank 1 is gone"));
  world_.Hold(false);
  for (int i = 0; i < 20000 && !answer.there(); ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
  ASSERT_TRUE(answer.there());
  EXPECT_EQ(answer.get().status().code(), absl::StatusCode::kUnavailable);
  Answer late;
  balancer_->Apply(Swapped(), late.Callback());
  EXPECT_EQ(late.get().status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(BalancerTest, AnApplyThatIsUnderWayWhenAllEndsIsAnswered) {
  Start(Assigning(), 4);
  Answer answer;
  balancer_->Apply(Swapped(), answer.Callback());
  world_.AwaitMove();
  balancer_.reset();  // no step ever names the change
  ASSERT_TRUE(answer.there());
  EXPECT_EQ(answer.get().status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(BalancerTest, AMoveThatDoesNotEndIsReportedOnce) {
  BalancerOptions options = Assigning();
  options.stuck_move = 0;
  Start(std::move(options), 4);
  world_.Hold(true);
  Answer answer;
  balancer_->Apply(Swapped(), answer.Callback());
  world_.AwaitMove();
  Step();
  Step();
  const std::string said = warnings();
  EXPECT_THAT(said, HasSubstr("move of expert weights"));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1);
  world_.Hold(false);
  EXPECT_TRUE(StepUntil([&] { return answer.there(); }));
}

TEST_F(BalancerTest, AThrottledRankIsSeenWithinTwentyStepsAndForgottenAsFast) {
  Start(Assigning());
  const std::vector<int64_t> rows(kExperts, 2);
  for (int i = 0; i < 30; ++i) Step(rows, {1e-6, 1e-6});
  balancer_->BeforeStep(plan_);
  ASSERT_EQ(plan_.costs.speed.size(), 2);
  EXPECT_NEAR(plan_.costs.speed[1], kNominalSpeed, kNominalSpeed * 0.1);
  const int64_t version = plan_.costs.version;
  for (int i = 0; i < 20; ++i) Step(rows, {1e-6, 2e-6});
  balancer_->BeforeStep(plan_);
  EXPECT_NEAR(plan_.costs.speed[1], kNominalSpeed * 0.5, kNominalSpeed * 0.1);
  EXPECT_GT(plan_.costs.version, version);
  for (int i = 0; i < 20; ++i) Step(rows, {1e-6, 1e-6});
  balancer_->BeforeStep(plan_);
  EXPECT_NEAR(plan_.costs.speed[1], kNominalSpeed, kNominalSpeed * 0.1);
}

TEST_F(BalancerTest, LearnedCostsThatDoNotFitAreIgnoredWithAWarning) {
  BalancerOptions options = Assigning();
  options.learned = CostState{1e-6, 1e-6, {1, 1, 1}};
  Start(std::move(options));
  EXPECT_THAT(warnings(), AllOf(HasSubstr("costs of the balance state ignored"),
                                HasSubstr("3 ranks, expected 2")));
}

TEST_F(BalancerTest, CountsWhereRowsWentAndRan) {
  Start(Assigning());
  Step({7, 0, 0, 1, 2, 3, 4, 3}, {1e-6, 1e-6});
  Step({1, 0, 0, 0, 0, 0, 0, 19}, {1e-6, 1e-6});
  const ExpertLoad load = balancer_->Load();
  EXPECT_EQ(load.steps, 2);
  EXPECT_EQ(load.tokens, 40);
  ASSERT_EQ(load.layers.size(), 2);
  EXPECT_EQ(load.layers[1].layer, 2);
  EXPECT_THAT(load.layers[1].expert_rows, ElementsAre(8, 0, 0, 1, 2, 3, 4, 22));
  EXPECT_THAT(load.layers[1].rank_rows, ElementsAre(20, 20));
}

class ReplanTest : public BalancerTest {
 protected:
  BalancerOptions Planning(const std::string& mode) {
    BalancerOptions options;
    options.mode = mode;
    options.replan_interval = 0.001;
    options.replan_steps = 32;
    options.watch_steps = 1 << 30;
    return options;
  }
  // Rank 0 holds the four that get nearly all rows.
  template <typename Done>
  bool SkewedStepsUntil(int steps, const Done& done) {
    for (int i = 0; i < steps && !done(); ++i) {
      Step({200, 100, 90, 80, 1, 1, 1, 1}, {1e-6, 1e-6});
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
    return done();
  }
  uint64_t version() const { return balancer_->Placement().version; }
};

TEST_F(ReplanTest, SkewedLoadMovesExperts) {
  Start(Planning("full"), 4);
  EXPECT_TRUE(SkewedStepsUntil(20000, [&] { return version() > 1; }));
  EXPECT_FALSE(world_.moves().empty());
}

TEST_F(ReplanTest, WhatTheLoadSinceSuitsWorseIsRolledBack) {
  BalancerOptions options = Planning("full");
  options.watch_steps = 200;
  Start(std::move(options), 4);
  const std::vector<LayerPlacement> before = balancer_->Placement().layers;
  ASSERT_TRUE(SkewedStepsUntil(20000, [&] { return version() > 1; }));
  // Now an expert that came to rank 1 and one that was there get all rows.
  const std::vector<int> now = ExpertsOfRank(balancer_->Placement().layers[1], 1);
  std::vector<int64_t> rows(kExperts, 1);
  for (const int old : {true, false}) {
    const auto found = std::find_if(now.begin(), now.end(),
                                    [&](int expert) { return (expert >= 4) == (old != 0); });
    ASSERT_NE(found, now.end());
    rows[static_cast<size_t>(*found)] = 200;
  }
  const auto back = [&] {
    return balancer_->Placement().layers[1].slot_expert == before[1].slot_expert;
  };
  for (int i = 0; i < 20000 && !back(); ++i) {
    Step(rows, {1e-6, 1e-6});
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
  EXPECT_TRUE(back());
}

TEST_F(ReplanTest, ObserveActsOnNothing) {
  Start(Planning("observe"), 4);
  const auto has_planned = [&] { return !notices().empty(); };
  EXPECT_TRUE(SkewedStepsUntil(20000, has_planned));
  EXPECT_THAT(notices(), AllOf(HasSubstr("replan: "), HasSubstr("observed only")));
  SkewedStepsUntil(100, [] { return false; });
  EXPECT_EQ(version(), 1);
  EXPECT_THAT(world_.moves(), IsEmpty());
}

TEST_F(ReplanTest, PausedPlansNothingAndGoesOnLater) {
  Start(Planning("full"), 4);
  EXPECT_TRUE(balancer_->SetPaused(true).paused);
  SkewedStepsUntil(300, [] { return false; });
  EXPECT_EQ(version(), 1);
  EXPECT_FALSE(balancer_->SetPaused(false).paused);
  EXPECT_TRUE(SkewedStepsUntil(20000, [&] { return version() > 1; }));
}

TEST_F(ReplanTest, AnAppliedLayerStaysPinnedUntilBalancingGoesOn) {
  Start(Planning("full"), 4);
  balancer_->SetPaused(true);
  PlacementRequest request;
  request.layers = balancer_->Placement().layers;
  std::swap(request.layers[1].slot_expert[3], request.layers[1].slot_expert[4]);
  std::swap(request.layers[2].slot_expert[3], request.layers[2].slot_expert[4]);
  const std::vector<LayerPlacement> wanted = request.layers;
  Answer answer;
  balancer_->Apply(std::move(request), answer.Callback());
  ASSERT_TRUE(SkewedStepsUntil(20000, [&] { return answer.there(); }));
  ASSERT_TRUE(answer.get().ok()) << answer.get().status();
  SkewedStepsUntil(300, [] { return false; });
  EXPECT_EQ(balancer_->Placement().layers[1].slot_expert, wanted[1].slot_expert);
  balancer_->SetPaused(false);
  EXPECT_TRUE(SkewedStepsUntil(20000, [&] {
    return balancer_->Placement().layers[1].slot_expert != wanted[1].slot_expert;
  }));
}

}  // namespace
}  // namespace ballast
