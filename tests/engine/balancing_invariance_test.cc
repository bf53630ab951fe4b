// The promise under balancing: whatever ranks, placements, spills, moves and speeds there are, the
// bits are those of one rank alone.
#include <filesystem>

#include "tests/engine/moving.h"

namespace ballast::test {
namespace {

using BalancingTest = MovingTest;

TEST_P(BalancingTest, RanksChangeNothing) {
  const auto requests = SomeRequests(12);
  const auto want = Alone(Options(), requests);
  for (const int ranks : {2, 3, 4, 8}) {
    EngineOptions options = Options();
    options.ranks = ranks;
    for (const char* balance : {"off", "assign", "full"}) {
      options.balance = balance;
      ExpectSame(want, AskAll(*MakeEngine(options), requests));
    }
  }
}

TEST_P(BalancingTest, PlacementsChangeNothing) {
  const auto requests = SomeRequests(8);
  const auto want = Alone(Options(), requests);
  const ModelConfig config = MakeEngine(Options())->info().config;
  ballast::Random random(3);
  for (const int ranks : {2, 3, 4, 8}) {
    EngineOptions options = Options();
    options.ranks = ranks;
    const LayerShape shape = RandomShape(config, ranks, random);
    options.placement = PlacementFile(RandomLayers(config, shape, random), config.experts);
    ExpectSame(want, AskAll(*MakeEngine(options), requests));
    std::filesystem::remove(options.placement);
  }
}

TEST_P(BalancingTest, SpillsAtEveryLayerChangeNothing) {
  const auto requests = SomeRequests(8);
  const auto want = Alone(Options(), requests);
  const int experts = MakeEngine(Options())->info().config.experts;
  for (const int ranks : {2, 3, 4, 8}) {
    const bool has_replicas = experts % ranks != 0;  // then all rows may be at home on every rank
    int64_t spilled = 0;
    EngineEvents events;
    events.on_step = [&](const StepReport& report) {
      for (const LayerBalance& layer : report.result->ranks[0].balance) {
        EXPECT_TRUE(has_replicas || layer.spilled_rows > 0);
        spilled += layer.spilled_rows;
      }
    };
    EngineOptions options = Options();
    options.ranks = ranks;
    options.test_force_spills = true;
    ExpectSame(want, AskAll(*MakeEngine(options, events), requests));
    EXPECT_GT(spilled, 0);
  }
}

TEST_P(BalancingTest, AThrottledRankChangesNothing) {
  const auto requests = SomeRequests(8);
  const auto want = Alone(Options(), requests);
  EngineOptions options = Options();
  options.ranks = 2;
  options.test_slow_rank = 1;
  options.test_slowdown = 4;
  ExpectSame(want, AskAll(*MakeEngine(options), requests));
}

// Placements come into force one after another while tokens are generated.
TEST_P(BalancingTest, SwapsWhileGeneratingChangeNothing) {
  const auto requests = SomeRequests(8);
  const auto want = Alone(Options(), requests);
  ballast::Random random(5);
  for (const int ranks : {2, 3, 4, 8}) {
    EngineOptions options = Options();
    options.ranks = ranks;
    const ModelConfig config = MakeEngine(Options())->info().config;
    const LayerShape shape = RandomShape(config, ranks, random);
    options.slots_per_rank = shape.slots_per_rank;
    const auto engine = MakeEngine(options);
    ExpectSameWhileMoving(*engine, shape, random, requests, want, /*rounds=*/2, /*version=*/3);
    const ExpertLoad load = engine->GetExpertLoad();
    for (const LayerLoad& layer : load.layers) {
      int64_t routed = 0;
      int64_t ran = 0;
      for (const int64_t rows : layer.expert_rows) routed += rows;
      for (const int64_t rows : layer.rank_rows) ran += rows;
      EXPECT_EQ(routed, load.tokens * config.experts_per_token);
      EXPECT_EQ(ran, routed);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, BalancingTest, testing::ValuesIn(EverySetting()), SettingName);

}  // namespace
}  // namespace ballast::test
