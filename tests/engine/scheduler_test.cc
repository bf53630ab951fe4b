#include "engine/scheduler.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using SequencePtr = std::shared_ptr<Sequence>;

// A pool, its queues and sequences with ids in order of arrival.
class SchedulerTest : public ::testing::Test {
 protected:
  // A prompt of tokens that no other sequence has.
  SequencePtr Add(int32_t prompt_tokens, int32_t priority = 0) {
    auto request = std::make_shared<Request>();
    request->priority = priority;
    request->prompt.resize(prompt_tokens);
    std::iota(request->prompt.begin(), request->prompt.end(),
              static_cast<int32_t>(1000 * next_id_));
    return AddOutput(std::move(request), 0);
  }

  SequencePtr AddOutput(std::shared_ptr<const Request> request, int32_t output_index) {
    auto sequence = std::make_shared<Sequence>();
    sequence->id = next_id_++;
    sequence->tokens = request->prompt;
    sequence->prompt_tokens = static_cast<int32_t>(request->prompt.size());
    sequence->output_index = output_index;
    sequence->request = std::move(request);
    Enqueue(sequence, queues_);
    return sequence;
  }

  // Decides, carries out, and lets every row be computed; each draw appends a token.
  Schedule Step() {
    Schedule schedule = DecideStep(queues_, pool_, budget_);
    ApplySchedule(schedule, queues_, pool_);
    for (const ScheduledRows& rows : schedule.rows) {
      MarkComputed(*rows.sequence, rows.rows, pool_);
      if (rows.draws) {
        rows.sequence->tokens.push_back(-1);
      }
    }
    return schedule;
  }

  void StepUntil(const std::function<bool()>& done) {
    for (int i = 0; i < 1000 && !done(); ++i) {
      Step();
    }
    ASSERT_TRUE(done());
  }

  static std::vector<std::pair<uint64_t, int32_t>> Rows(const Schedule& schedule) {
    std::vector<std::pair<uint64_t, int32_t>> rows;
    for (const ScheduledRows& scheduled : schedule.rows) {
      rows.emplace_back(scheduled.sequence->id, scheduled.rows);
    }
    return rows;
  }

  static std::vector<uint64_t> Ids(const std::vector<SequencePtr>& sequences) {
    std::vector<uint64_t> ids;
    for (const SequencePtr& sequence : sequences) {
      ids.push_back(sequence->id);
    }
    return ids;
  }

  using Pair = std::pair<uint64_t, int32_t>;

  BlockPool pool_{64};
  Queues queues_;
  StepBudget budget_{.step_tokens = 64, .max_running = 8};
  uint64_t next_id_ = 1;
};

TEST_F(SchedulerTest, HasNothingToDoWithoutSequences) {
  const Schedule schedule = Step();
  EXPECT_THAT(schedule.rows, IsEmpty());
  EXPECT_THAT(schedule.admit, IsEmpty());
  EXPECT_THAT(schedule.preempt, IsEmpty());
}

TEST_F(SchedulerTest, CutsAPromptIntoChunksAndDrawsAfterTheLast) {
  const SequencePtr a = Add(150);
  Schedule schedule = Step();
  EXPECT_THAT(Rows(schedule), ElementsAre(Pair(1, 64)));
  EXPECT_FALSE(schedule.rows[0].draws);
  EXPECT_EQ(schedule.rows[0].new_blocks, 4);
  Step();
  EXPECT_EQ(a->computed, 128);
  schedule = Step();
  EXPECT_THAT(Rows(schedule), ElementsAre(Pair(1, 22)));
  EXPECT_TRUE(schedule.rows[0].draws);
  schedule = Step();
  EXPECT_THAT(Rows(schedule), ElementsAre(Pair(1, 1)));
  EXPECT_TRUE(schedule.rows[0].draws);
}

TEST_F(SchedulerTest, ServesDecodesBeforePrefills) {
  Add(10);
  Step();
  Add(100, /*priority=*/5);
  Add(100);
  const Schedule schedule = Step();
  EXPECT_THAT(Rows(schedule), ElementsAre(Pair(1, 1), Pair(2, 63)));
  EXPECT_THAT(Rows(Step()), ElementsAre(Pair(1, 1), Pair(2, 37), Pair(3, 26)));
}

TEST_F(SchedulerTest, AdmitsByPriorityThenArrival) {
  Add(64);
  Add(64);
  Add(64, 1);
  Add(64, -1);
  EXPECT_THAT(Ids(queues_.waiting), ElementsAre(3, 1, 2, 4));
  EXPECT_THAT(Rows(Step()), ElementsAre(Pair(3, 64)));
  EXPECT_THAT(Rows(Step()), ElementsAre(Pair(3, 1), Pair(1, 63)));
}

TEST_F(SchedulerTest, RunsNoMoreSequencesThanAllowedOrThanAStepHasRows) {
  for (int i = 0; i < 12; ++i) {
    Add(1);
  }
  EXPECT_EQ(Step().admit.size(), 8u);
  EXPECT_THAT(Step().admit, IsEmpty());
  budget_ = {.step_tokens = 10, .max_running = 100};
  EXPECT_EQ(Step().admit.size(), 2u);
  EXPECT_EQ(queues_.running.size(), 10u);
  EXPECT_EQ(Step().rows.size(), 10u);
}

TEST_F(SchedulerTest, NeverPassesAWaitingSequenceThatDoesNotFit) {
  Add(16 * 40);
  StepUntil([&] { return queues_.running.size() == 1; });
  Add(16 * 30);
  Add(16);
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(Step().admit, IsEmpty());
  }
}

TEST_F(SchedulerTest, LeavesRoomForThoseRunningToGrow) {
  budget_.step_tokens = 2000;
  Add(16 * 40);
  // 64 blocks less 41, one of those to grow into, leave 23: 22 and one to grow into.
  const SequencePtr too_big = Add(16 * 23);
  EXPECT_EQ(Step().admit.size(), 1u);
  Remove(*too_big, queues_, pool_);
  // The first has begun its 41st block and may grow into the 42nd.
  Add(16 * 21);
  Add(1);
  EXPECT_EQ(Step().admit.size(), 1u);
  EXPECT_THAT(Step().admit, IsEmpty());
}

TEST_F(SchedulerTest, PassesOverCancelledSequences) {
  Add(10)->cancelled = true;
  const SequencePtr b = Add(10);
  EXPECT_THAT(Rows(Step()), ElementsAre(Pair(2, 10)));
  b->cancelled = true;
  EXPECT_THAT(Step().rows, IsEmpty());
}

TEST_F(SchedulerTest, PreemptsTheNewestOfTheLowestPriority) {
  pool_ = BlockPool(6);
  const SequencePtr a = Add(16, 1);
  const SequencePtr b = Add(16);
  const SequencePtr c = Add(16);
  Step();
  EXPECT_EQ(queues_.running.size(), 3u);
  StepUntil([&] { return a->tokens.size() == 34; });
  // Each has 2 blocks; the third that `a` needs is taken from `c`, and `b` takes what is left.
  Schedule schedule = DecideStep(queues_, pool_, budget_);
  EXPECT_THAT(Ids(schedule.preempt), IsEmpty());
  StepUntil([&] { return queues_.running.size() == 2; });
  EXPECT_THAT(Ids(queues_.waiting), ElementsAre(c->id));
  EXPECT_EQ(c->computed, 0);
  EXPECT_THAT(c->blocks, IsEmpty());
  EXPECT_TRUE(a->pending() == 1 && b->pending() == 1);
}

TEST_F(SchedulerTest, ASequenceThatFindsNoVictimKeepsItsBlocksUntilItIsOne) {
  pool_ = BlockPool(5);
  const SequencePtr a = Add(17);
  const SequencePtr b = Add(8);
  Step();
  ASSERT_EQ(queues_.running.size(), 2u);
  // `b` needs a third block when `a` holds three.
  StepUntil([&] { return b->tokens.size() == 33; });
  EXPECT_EQ(pool_.available(), 0);
  Schedule schedule = Step();
  EXPECT_THAT(Rows(schedule), ElementsAre(Pair(a->id, 1)));
  EXPECT_THAT(schedule.preempt, IsEmpty());
  EXPECT_EQ(b->blocks.size(), 2u);
  StepUntil([&] { return a->tokens.size() == 49; });
  schedule = Step();
  EXPECT_THAT(Rows(schedule), ElementsAre(Pair(a->id, 1)));
  EXPECT_THAT(Ids(schedule.preempt), ElementsAre(b->id));
}

TEST_F(SchedulerTest, WhatWasTakenFromASequenceGoesToNoneThatItOutranks) {
  pool_ = BlockPool(8);
  const SequencePtr a = Add(16 * 2, 2);
  const SequencePtr b = Add(16 * 2, 1);
  StepUntil([&] { return pool_.available() == 0; });
  Add(1, 0);
  StepUntil([&] { return !b->admitted || b->blocks.empty(); });
  EXPECT_GT(pool_.available(), 2);
  EXPECT_EQ(queues_.running, std::vector<SequencePtr>{a});
}

TEST_F(SchedulerTest, HigherPriorityPushesOutLowerForItsPlace) {
  budget_.max_running = 2;
  Add(16);
  const SequencePtr second = Add(16);
  Step();
  Add(16);
  EXPECT_THAT(Step().admit, IsEmpty());
  const SequencePtr urgent = Add(16, 1);
  budget_.step_tokens = 4;
  const Schedule schedule = Step();
  // The row that was set aside for the second goes to the urgent one too.
  EXPECT_THAT(Rows(schedule), ElementsAre(Pair(1, 1), Pair(4, 3)));
  EXPECT_THAT(Ids(schedule.preempt), ElementsAre(second->id));
  ASSERT_EQ(schedule.admit.size(), 1u);
  EXPECT_EQ(schedule.admit[0].sequence, urgent);
  // It waits where it arrived.
  EXPECT_THAT(Ids(queues_.waiting), ElementsAre(2, 3));
}

TEST_F(SchedulerTest, HigherPriorityPushesOutLowerForItsBlocksOnlyWhenThatLetsItIn) {
  pool_ = BlockPool(12);
  Add(16 * 4, 2);
  Add(16 * 4, 0);
  Step();
  Step();
  ASSERT_EQ(queues_.running.size(), 2u);
  const SequencePtr too_big = Add(16 * 8, 1);
  EXPECT_THAT(Step().preempt, IsEmpty());
  Remove(*too_big, queues_, pool_);
  Add(16 * 3, 1);
  EXPECT_THAT(Ids(Step().preempt), ElementsAre(2));
}

TEST_F(SchedulerTest, APushThatFailsGivesNoBlocksAway) {
  pool_ = BlockPool(12);
  Add(16 * 4, 2);
  const SequencePtr low = Add(16 * 4 + 8, 0);
  StepUntil([&] { return low->tokens.size() == 16 * 6 + 1; });
  ASSERT_EQ(pool_.available(), 0);
  Add(16 * 8, 1);  // would not fit in place of `low` either
  const Schedule schedule = Step();
  EXPECT_THAT(Rows(schedule), ElementsAre(Pair(1, 1)));
  EXPECT_THAT(schedule.preempt, IsEmpty());
}

TEST_F(SchedulerTest, APrefixFoundInVainIsStillThereToTake) {
  pool_ = BlockPool(6);
  const SequencePtr gone = Add(16 * 2 + 1);
  Step();
  Remove(*gone, queues_, pool_);
  const SequencePtr low = Add(16 * 3);
  StepUntil([&] { return low->tokens.size() == 16 * 4 + 1; });
  auto request = std::make_shared<Request>();
  request->priority = 1;
  request->prompt = gone->request->prompt;
  request->prompt.resize(16 * 7);
  AddOutput(std::move(request), 0);
  // It needs more blocks than there are; those that hold its prefix are the only ones left.
  EXPECT_THAT(Rows(Step()), ElementsAre(Pair(low->id, 1)));
}

TEST_F(SchedulerTest, AFoundPrefixIsNotComputedAgain) {
  const SequencePtr a = Add(50);
  Step();
  const SequencePtr b = AddOutput(a->request, 0);
  const Schedule schedule = Step();
  ASSERT_EQ(schedule.admit.size(), 1u);
  EXPECT_EQ(schedule.admit[0].cached_blocks.size(), 3u);
  EXPECT_THAT(Rows(schedule), ElementsAre(Pair(1, 1), Pair(2, 2)));
  EXPECT_EQ(b->cached_prompt_tokens, 48);
  EXPECT_TRUE(std::equal(b->blocks.begin(), b->blocks.begin() + 3, a->blocks.begin()));
  EXPECT_EQ(pool_.references(a->blocks[0]), 2);
  EXPECT_EQ(pool_.references(a->blocks[3]), 1);
}

TEST_F(SchedulerTest, AlwaysComputesTheLastTokenOfAFoundPrompt) {
  const SequencePtr a = Add(48);
  Step();
  const SequencePtr b = AddOutput(a->request, 0);
  EXPECT_THAT(Rows(Step()), ElementsAre(Pair(1, 1), Pair(2, 16)));
  EXPECT_EQ(b->cached_prompt_tokens, 32);
}

TEST_F(SchedulerTest, BypassNeitherFindsNorLeavesAPrefix) {
  Request request;
  request.prompt = std::vector<int32_t>(48, 7);
  const auto plain = std::make_shared<Request>(request);
  request.bypass_prefix_cache = true;
  const auto bypass = std::make_shared<Request>(request);
  AddOutput(bypass, 0);
  Step();
  for (const auto& [again, expected] : {std::pair(plain, 0), {plain, 32}, {bypass, 0}}) {
    const SequencePtr sequence = AddOutput(again, 0);
    Step();
    EXPECT_EQ(sequence->cached_prompt_tokens, expected);
  }
}

TEST_F(SchedulerTest, PromptLogprobsLeaveAPrefixButFindNone) {
  Request request;
  request.prompt = std::vector<int32_t>(48, 7);
  const auto plain = std::make_shared<Request>(request);
  request.response.prompt_logprobs = 0;
  const auto scored = std::make_shared<Request>(request);
  for (const auto& [again, expected] : {std::pair(scored, 0), {scored, 0}, {plain, 32}}) {
    const SequencePtr sequence = AddOutput(again, 0);
    Step();
    EXPECT_EQ(sequence->cached_prompt_tokens, expected);
  }
}

TEST_F(SchedulerTest, PrefixesAreFoundUnderTheSameSaltOnly) {
  Request request;
  request.prompt = std::vector<int32_t>(48, 7);
  request.cache_salt = "a";
  const auto a = std::make_shared<Request>(request);
  request.cache_salt = "b";
  const auto b = std::make_shared<Request>(request);
  for (const auto& [again, expected] : {std::pair(a, 0), {b, 0}, {a, 32}, {b, 32}}) {
    const SequencePtr sequence = AddOutput(again, 0);
    Step();
    EXPECT_EQ(sequence->cached_prompt_tokens, expected);
  }
}

TEST_F(SchedulerTest, OutputsOfARequestWaitForTheOneThatComputesThePrompt) {
  Request request;
  request.prompt = std::vector<int32_t>(100, 7);
  request.sampling.n = 3;
  const auto shared = std::make_shared<Request>(request);
  for (int32_t i = 0; i < 3; ++i) {
    AddOutput(shared, i);
  }
  Add(10);
  EXPECT_THAT(Rows(Step()), ElementsAre(Pair(1, 64)));
  // Those behind are not held up.
  EXPECT_THAT(Rows(Step()), ElementsAre(Pair(1, 36), Pair(4, 10)));
  EXPECT_THAT(Rows(Step()), ElementsAre(Pair(1, 1), Pair(4, 1), Pair(2, 4)));
  EXPECT_THAT(Rows(Step()), ElementsAre(Pair(1, 1), Pair(2, 1), Pair(4, 1), Pair(3, 4)));
}

TEST_F(SchedulerTest, APreemptedSequenceFindsWhatIsLeftOfItsPrefix) {
  const SequencePtr a = Add(40);
  Step();
  Step();
  Schedule preempt;
  preempt.preempt = {a};
  ApplySchedule(preempt, queues_, pool_);
  EXPECT_EQ(pool_.used(), 0);
  EXPECT_EQ(a->tokens.size(), 42u);
  EXPECT_THAT(Rows(Step()), ElementsAre(Pair(1, 10)));
  // What counts is the first admission.
  EXPECT_EQ(a->cached_prompt_tokens, 0);
}

TEST_F(SchedulerTest, FillsTheWholePoolWithOneSequence) {
  pool_ = BlockPool(4);
  const SequencePtr a = Add(64);
  EXPECT_THAT(Rows(Step()), ElementsAre(Pair(1, 64)));
  // The next token would be the 65th.
  EXPECT_THAT(Step().rows, IsEmpty());
  Remove(*a, queues_, pool_);
  Add(65);
  EXPECT_THAT(Step().admit, IsEmpty());
}

TEST_F(SchedulerTest, RemovesFromEitherQueue) {
  const SequencePtr a = Add(64);
  const SequencePtr b = Add(64);
  Step();
  Remove(*a, queues_, pool_);
  Remove(*b, queues_, pool_);
  EXPECT_THAT(queues_.running, IsEmpty());
  EXPECT_THAT(queues_.waiting, IsEmpty());
  EXPECT_EQ(pool_.used(), 0);
}

}  // namespace
}  // namespace ballast
