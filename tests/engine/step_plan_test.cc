#include "engine/step_plan.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::shared_ptr<Sequence> MakeSequence(Request request, std::vector<int32_t> output,
                                       int32_t computed, std::vector<int32_t> blocks) {
  auto sequence = std::make_shared<Sequence>();
  sequence->tokens = request.prompt;
  sequence->prompt_tokens = static_cast<int32_t>(request.prompt.size());
  sequence->tokens.insert(sequence->tokens.end(), output.begin(), output.end());
  sequence->request = std::make_shared<const Request>(std::move(request));
  sequence->computed = computed;
  sequence->blocks = std::move(blocks);
  return sequence;
}

Request Prompt(std::vector<int32_t> prompt) {
  Request request;
  request.prompt = std::move(prompt);
  return request;
}

StepPlan Build(const std::vector<ScheduledRows>& rows, std::vector<int32_t> eos = {2}) {
  std::vector<Schedule> schedules(1);
  schedules[0].rows = rows;
  StepPlan plan;
  plan.ranks.resize(1);
  plan.ranks[0].tokens = {99};  // left from the step before
  BuildStepPlan(schedules, eos, plan);
  return plan;
}

TEST(BuildStepPlan, LaysRowsOutBySequence) {
  std::vector<int32_t> prompt(20);
  for (int i = 0; i < 20; ++i) prompt[i] = 100 + i;
  const auto decode = MakeSequence(Prompt({5, 6, 7}), {8}, 3, {4});
  const auto prefill = MakeSequence(Prompt(prompt), {}, 15, {9, 2});
  const StepPlan plan = Build({{decode, 1, 0, true}, {prefill, 3, 0, false}});
  const RankBatch& batch = plan.ranks[0];
  EXPECT_THAT(batch.tokens, ElementsAre(8, 115, 116, 117));
  EXPECT_THAT(batch.positions, ElementsAre(3, 15, 16, 17));
  EXPECT_THAT(batch.kv_slots, ElementsAre(4 * 16 + 3, 9 * 16 + 15, 2 * 16, 2 * 16 + 1));
  EXPECT_THAT(batch.block_tables, ElementsAre(4, 9, 2));
  ASSERT_EQ(batch.spans.size(), 2u);
  EXPECT_EQ(batch.spans[1].row_begin, 1);
  EXPECT_EQ(batch.spans[1].rows, 3);
  EXPECT_EQ(batch.spans[1].first_position, 15);
  EXPECT_EQ(batch.spans[1].table_begin, 1);
  ASSERT_EQ(batch.samples.size(), 1u);
  EXPECT_EQ(batch.samples[0].row, 0);
  EXPECT_EQ(batch.samples[0].position, 4);
  EXPECT_EQ(batch.samples[0].target, -1);
}

TEST(BuildStepPlan, ScoresPromptTokensOnceInRowOrder) {
  Request request = Prompt({5, 6, 7, 8});
  request.response.prompt_logprobs = 2;
  const auto sequence = MakeSequence(request, {}, 0, {0});
  StepPlan plan = Build({{sequence, 3, 0, false}});
  ASSERT_EQ(plan.ranks[0].samples.size(), 3u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(plan.ranks[0].samples[i].row, i);
    EXPECT_EQ(plan.ranks[0].samples[i].target, 6 + i);
    EXPECT_EQ(plan.ranks[0].samples[i].logprobs, 2);
  }
  sequence->scored = 3;  // two were known before a preemption
  plan = Build({{sequence, 4, 0, true}});
  ASSERT_EQ(plan.ranks[0].samples.size(), 2u);
  EXPECT_EQ(plan.ranks[0].samples[0].row, 2);
  EXPECT_EQ(plan.ranks[0].samples[0].target, 8);
  EXPECT_EQ(plan.ranks[0].samples[1].target, -1);
}

TEST(BuildStepPlan, BansStopTokensUntilMinTokens) {
  Request request = Prompt({5});
  request.stopping.min_tokens = 2;
  request.stopping.stop_token_ids = {7};
  EXPECT_THAT(Build({{MakeSequence(request, {4}, 1, {0}), 1, 0, true}}).ranks[0].banned,
              ElementsAre(7, 2));
  EXPECT_THAT(Build({{MakeSequence(request, {4, 4}, 2, {0}), 1, 0, true}}).ranks[0].banned,
              IsEmpty());
  request.stopping.ignore_eos = true;
  EXPECT_THAT(Build({{MakeSequence(request, {4}, 1, {0}), 1, 0, true}}).ranks[0].banned,
              ElementsAre(7));
}

TEST(BuildStepPlan, PenaltiesGetDistinctTokensWithTheirOutputCounts) {
  Request request = Prompt({9, 5, 9, 1});
  request.sampling.presence_penalty = 0.5f;
  const StepPlan plan = Build({{MakeSequence(request, {5, 3, 5}, 6, {0}), 1, 0, true}});
  const std::vector<TokenCount>& history = plan.ranks[0].history;
  ASSERT_EQ(history.size(), 4u);
  const std::vector<std::pair<int, int>> want = {{1, 0}, {3, 1}, {5, 2}, {9, 0}};
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(history[i].token, want[i].first);
    EXPECT_EQ(history[i].output_count, want[i].second);
  }
  EXPECT_EQ(plan.ranks[0].samples[0].history.size(), 4);
}

TEST(BuildStepPlan, GivesEverySampleItsOwnBiasRange) {
  Request biased = Prompt({5});
  biased.sampling.logit_bias = {{3, 1.0f}, {4, -1.0f}};
  const auto a = MakeSequence(biased, {}, 0, {0});
  const auto b = MakeSequence(Prompt({5}), {}, 0, {1});
  const auto c = MakeSequence(biased, {}, 0, {2});
  const StepPlan plan = Build({{a, 1, 0, true}, {b, 1, 0, true}, {c, 1, 0, true}});
  const auto& samples = plan.ranks[0].samples;
  EXPECT_EQ(samples[0].bias.size(), 2);
  EXPECT_EQ(samples[1].bias.size(), 0);
  EXPECT_EQ(samples[2].bias.begin, 2);
  EXPECT_EQ(samples[2].bias.end, 4);
}

}  // namespace
}  // namespace ballast
