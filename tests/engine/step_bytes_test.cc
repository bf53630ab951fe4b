#include "engine/step_bytes.h"

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using testing::HasSubstr;

class Dice {
 public:
  explicit Dice(uint32_t seed) : random_(seed) {}
  int32_t Below(int32_t end) {
    return static_cast<int32_t>(random_() % static_cast<uint32_t>(end));
  }
  float Real() { return static_cast<float>(Below(1000)) / 7.0f; }
  Range In(size_t size) {
    const int32_t end = Below(static_cast<int32_t>(size) + 1);
    return {Below(end + 1), end};
  }

 private:
  std::mt19937 random_;
};

RankBatch RandomBatch(Dice& dice) {
  RankBatch batch;
  for (int sequence = dice.Below(4); sequence > 0; --sequence) {
    const int32_t rows = 1 + dice.Below(20);
    const int32_t first = dice.Below(40);
    batch.spans.push_back(
        {batch.rows(), rows, first, static_cast<int64_t>(batch.block_tables.size())});
    for (int32_t i = 0; i < rows; ++i) {
      batch.tokens.push_back(dice.Below(50000));
      batch.positions.push_back(first + i);
      batch.kv_slots.push_back(dice.Below(1 << 20));
    }
    for (int32_t i = 0; i < (first + rows + 15) / 16; ++i) {
      batch.block_tables.push_back(dice.Below(1000));
    }
  }
  for (int i = dice.Below(9); i > 0; --i) batch.bias.push_back({dice.Below(99), dice.Real()});
  for (int i = dice.Below(9); i > 0; --i) batch.banned.push_back(dice.Below(99));
  for (int i = dice.Below(9); i > 0; --i) batch.history.push_back({dice.Below(99), dice.Below(9)});
  for (int i = batch.rows() == 0 ? 0 : dice.Below(5); i > 0; --i) {
    SampleRow sample;
    sample.row = dice.Below(static_cast<int32_t>(batch.rows()));
    sample.position = dice.Below(99);
    sample.target = dice.Below(99) - 1;
    sample.logprobs = dice.Below(5) - 1;
    sample.temperature = dice.Real();
    sample.top_p = dice.Real();
    sample.top_k = dice.Below(99);
    sample.min_p = dice.Real();
    sample.repetition_penalty = dice.Real();
    sample.frequency_penalty = dice.Real();
    sample.presence_penalty = dice.Real();
    sample.seed = (uint64_t{1} << 63) + static_cast<uint64_t>(dice.Below(99));
    sample.output_index = dice.Below(99);
    sample.bias = dice.In(batch.bias.size());
    sample.banned = dice.In(batch.banned.size());
    sample.history = dice.In(batch.history.size());
    batch.samples.push_back(sample);
  }
  return batch;
}

StepPlan RandomPlan(Dice& dice, int ranks) {
  StepPlan plan;
  plan.step = (uint64_t{1} << 40) + static_cast<uint64_t>(dice.Below(99));
  plan.placement_version = 1 + static_cast<uint64_t>(dice.Below(99));
  for (int i = dice.Below(3); i > 0; --i) {
    plan.changes.push_back({dice.Below(9), EvenPlacement(8, ranks, 8)});
  }
  plan.costs.version = dice.Below(99);
  plan.costs.mode = static_cast<BalanceMode>(dice.Below(3));
  plan.costs.tile_rows = 1 + dice.Below(16);
  plan.costs.tile_cost = 1 + dice.Below(999);
  plan.costs.floor_cost = dice.Below(999);
  plan.costs.import_cost = dice.Below(999);
  plan.costs.export_cost = dice.Below(999);
  plan.costs.max_imports = dice.Below(9);
  plan.costs.force_spills = dice.Below(2) == 1;
  if (dice.Below(2) == 1) plan.costs.speed.assign(ranks, 512 + dice.Below(999));
  for (int rank = 0; rank < ranks; ++rank) plan.ranks.push_back(RandomBatch(dice));
  return plan;
}

TokenLogprobs RandomLogprobs(Dice& dice) {
  TokenLogprobs logprobs{dice.Below(99), std::nullopt, dice.Below(99), {}};
  if (dice.Below(2) == 1) logprobs.logprob = dice.Real();
  for (int i = dice.Below(4); i > 0; --i) logprobs.top.emplace_back(dice.Below(99), dice.Real());
  return logprobs;
}

RankResult RandomResult(Dice& dice) {
  RankResult result;
  for (int i = dice.Below(9); i > 0; --i) {
    Sampled& sampled = result.samples.emplace_back();
    sampled.token = dice.Below(99) - 1;
    if (dice.Below(2) == 1) sampled.logprobs = RandomLogprobs(dice);
  }
  for (int i = dice.Below(99); i > 0; --i) result.routed.push_back(dice.Below(1 << 16));
  for (int i = dice.Below(9); i > 0; --i) result.expert_rows.push_back(dice.Below(999));
  for (int i = dice.Below(9); i > 0; --i) result.run_rows.push_back(dice.Below(999));
  for (int i = dice.Below(9); i > 0; --i) {
    result.timings.push_back({dice.Below(99), dice.Below(999), dice.Real()});
    result.balance.push_back({dice.Below(9), dice.Below(9), dice.Below(9), dice.Below(9)});
  }
  result.wait_seconds = dice.Real();
  result.seconds = dice.Real();
  return result;
}

std::string PlanBytes(const StepPlan& plan, int rank) {
  std::string bytes;
  AppendPlan(plan, rank, bytes);
  return bytes;
}

TEST(StepBytes, APlanComesBackAsItWasForItsRank) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    Dice dice(seed);
    const int ranks = 1 + dice.Below(4);
    const StepPlan plan = RandomPlan(dice, ranks);
    const int rank = dice.Below(ranks);
    const std::string bytes = PlanBytes(plan, rank);
    StepPlan parsed;
    ASSERT_EQ(ParsePlan(bytes, rank, ranks, parsed), absl::OkStatus()) << seed;
    ASSERT_EQ(parsed.step, plan.step);
    ASSERT_EQ(parsed.placement_version, plan.placement_version);
    ASSERT_EQ(parsed.changes.size(), plan.changes.size());
    ASSERT_EQ(parsed.costs.speed, plan.costs.speed);
    ASSERT_EQ(parsed.costs.force_spills, plan.costs.force_spills);
    ASSERT_EQ(parsed.ranks.size(), plan.ranks.size());
    const RankBatch& batch = parsed.ranks[rank];
    ASSERT_EQ(batch.tokens, plan.ranks[rank].tokens);
    ASSERT_EQ(batch.samples.size(), plan.ranks[rank].samples.size());
    for (size_t i = 0; i < batch.samples.size(); ++i) {
      ASSERT_EQ(batch.samples[i].seed, plan.ranks[rank].samples[i].seed);
      ASSERT_EQ(batch.samples[i].history.end, plan.ranks[rank].samples[i].history.end);
    }
    // Every field travels: the same bytes again.
    ASSERT_EQ(PlanBytes(parsed, rank), bytes);
  }
}

TEST(StepBytes, AResultComesBackAsItWas) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    Dice dice(seed);
    const RankResult result = RandomResult(dice);
    std::string bytes;
    AppendResult(result, bytes);
    RankResult parsed;
    ASSERT_EQ(ParseResult(bytes, parsed), absl::OkStatus());
    ASSERT_EQ(parsed.routed, result.routed);
    ASSERT_EQ(parsed.expert_rows, result.expert_rows);
    ASSERT_EQ(parsed.run_rows, result.run_rows);
    ASSERT_EQ(parsed.seconds, result.seconds);
    ASSERT_EQ(parsed.samples.size(), result.samples.size());
    for (size_t i = 0; i < parsed.samples.size(); ++i) {
      ASSERT_EQ(parsed.samples[i].token, result.samples[i].token);
      ASSERT_EQ(parsed.samples[i].logprobs.has_value(), result.samples[i].logprobs.has_value());
    }
    std::string again;
    AppendResult(parsed, again);
    ASSERT_EQ(again, bytes);
  }
}

TEST(StepBytes, BytesThatEndTooEarlyAreRefused) {
  Dice dice(7);
  const StepPlan plan = RandomPlan(dice, 2);
  const std::string bytes = PlanBytes(plan, 1);
  for (size_t size = 0; size < bytes.size(); ++size) {
    StepPlan parsed;
    const absl::Status status = ParsePlan(bytes.substr(0, size), 1, 2, parsed);
    ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << size;
  }
  StepPlan parsed;
  EXPECT_THAT(ParsePlan(bytes + "xy", 1, 2, parsed).message(), HasSubstr("found 2 bytes behind"));
}

TEST(StepBytes, ACountThatTheBytesCannotHoldTakesNoMemory) {
  RankResult result;
  std::string bytes(8, '\xff');  // as many samples as can be counted
  EXPECT_THAT(ParseResult(bytes, result).message(), HasSubstr("end too early"));
  EXPECT_TRUE(result.samples.empty());
}

TEST(StepBytes, ArraysThatDoNotFitTogetherAreRefused) {
  const auto refusal = [](auto spoil) {
    StepPlan plan;
    RankBatch& batch = plan.ranks.emplace_back();
    batch.tokens = {5, 6};
    batch.positions = {0, 1};
    batch.kv_slots = {0, 1};
    batch.spans = {{0, 2, 0, 0}};
    batch.block_tables = {0};
    SampleRow sample;
    sample.row = 1;
    batch.samples = {sample};
    spoil(plan);
    StepPlan parsed;
    return std::string(ParsePlan(PlanBytes(plan, 0), 0, 1, parsed).message());
  };
  EXPECT_EQ(refusal([](StepPlan&) {}), "");
  EXPECT_THAT(refusal([](StepPlan& p) { p.ranks[0].positions.pop_back(); }),
              HasSubstr("positions"));
  EXPECT_THAT(refusal([](StepPlan& p) { p.ranks[0].spans[0].rows = 3; }), HasSubstr("span"));
  EXPECT_THAT(refusal([](StepPlan& p) { p.ranks[0].spans[0].first_position = 15; }),
              HasSubstr("block table"));
  EXPECT_THAT(refusal([](StepPlan& p) {
                p.ranks[0].spans = {{1, 1, 1, 0}, {0, 1, 0, 0}};
              }),
              HasSubstr("order of their rows"));
  EXPECT_THAT(refusal([](StepPlan& p) { p.ranks[0].samples[0].row = 2; }), HasSubstr("sample"));
  EXPECT_THAT(refusal([](StepPlan& p) { p.ranks[0].samples[0].bias = {0, 1}; }), HasSubstr("bias"));
  EXPECT_THAT(refusal([](StepPlan& p) { p.costs.tile_rows = 0; }), HasSubstr("tile_rows is 0"));
  EXPECT_THAT(refusal([](StepPlan& p) { p.costs.mode = static_cast<BalanceMode>(9); }),
              HasSubstr("mode"));
  EXPECT_THAT(refusal([](StepPlan& p) {
                p.changes = {{0, EvenPlacement(4, 2)}};
              }),
              HasSubstr("placement"));
}

}  // namespace
}  // namespace ballast
