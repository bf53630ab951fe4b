// The promise over processes: whatever travels between them, the bits are those of one rank alone.
#include "engine/process_world.h"

#include <filesystem>
#include <future>

#include "gmock/gmock.h"
#include "tests/engine/invariance.h"
#include "tests/engine/random_layers.h"
#include "tests/support/process_engine.h"

namespace ballast::test {
namespace {

using testing::HasSubstr;

using ProcessWorldTest = InvarianceTest;

void ExpectAllEndedWell(ProcessEngine& engine) {
  const std::vector<absl::Status>& ended = engine.Stop();
  for (size_t rank = 1; rank < ended.size(); ++rank) {
    EXPECT_EQ(ended[rank], absl::OkStatus()) << "rank " << rank;
  }
}

TEST_P(ProcessWorldTest, ProcessesChangeNothing) {
  const auto requests = SomeRequests(8);
  const auto want = Alone(Options(), requests);
  for (const int ranks : {2, 4}) {
    EngineOptions options = Options();
    options.ranks = ranks;
    for (const char* balance : {"off", "full"}) {
      options.balance = balance;
      ProcessEngine engine(options);
      ExpectSame(want, AskAll(*engine, requests));
      ExpectAllEndedWell(engine);
    }
  }
}

TEST_P(ProcessWorldTest, ExpertsLentAtEveryLayerChangeNothing) {
  const auto requests = SomeRequests(6);
  const auto want = Alone(Options(), requests);
  for (const int ranks : {2, 4}) {
    int64_t spilled = 0;
    EngineEvents events;
    events.on_step = [&](const StepReport& report) {
      for (const LayerBalance& layer : report.result->ranks[0].balance) {
        spilled += layer.spilled_rows;
      }
    };
    EngineOptions options = Options();
    options.ranks = ranks;
    options.test_force_spills = true;
    ProcessEngine engine(options, events);
    ExpectSame(want, AskAll(*engine, requests));
    EXPECT_GT(spilled, 0);
    ExpectAllEndedWell(engine);
  }
}

// Expert e of each layer stands on rank (e + turn) mod ranks.
PlacementRequest Turned(const ModelConfig& config, int ranks, int turn) {
  PlacementRequest request;
  request.layers.resize(config.layers);
  const int slots = (config.experts + ranks - 1) / ranks;
  for (const int layer : MoeLayers(config)) {
    LayerPlacement placement{ranks, slots, std::vector<int32_t>(int64_t{ranks} * slots, -1)};
    for (int expert = 0; expert < config.experts; ++expert) {
      placement.slot_expert[(expert + turn) % ranks * slots + expert / ranks] = expert;
    }
    request.layers[layer] = std::move(placement);
  }
  return request;
}

TEST_P(ProcessWorldTest, MovesWhileGeneratingChangeNothing) {
  const auto requests = SomeRequests(6);
  const auto want = Alone(Options(), requests);
  for (const int ranks : {2, 4}) {
    EngineOptions options = Options();
    options.ranks = ranks;
    ProcessEngine engine(options);
    const ModelConfig& config = engine->info().config;
    std::vector<std::unique_ptr<Pending>> pending;
    for (const Request& request : requests) pending.push_back(Start(*engine, request));
    int64_t moves = 0;
    for (int turn = 1; turn <= 3; ++turn) {
      std::promise<absl::StatusOr<PlacementChange>> answer;
      engine->ApplyPlacement(
          Turned(config, ranks, turn),
          [&](absl::StatusOr<PlacementChange> change) { answer.set_value(std::move(change)); });
      const absl::StatusOr<PlacementChange> change = answer.get_future().get();
      ASSERT_EQ(change.status(), absl::OkStatus());
      moves += change->slot_moves;
    }
    EXPECT_GT(moves, 0);
    std::vector<Answer> answers;
    for (auto& p : pending) answers.push_back(p->Wait());
    ExpectSame(want, answers);
    // And on what has moved.
    auto again = requests;
    for (Request& request : again) request.bypass_prefix_cache = true;
    ExpectSame(want, AskAll(*engine, again));
    ExpectAllEndedWell(engine);
  }
}

TEST_P(ProcessWorldTest, PlacementsChangeNothing) {
  const auto requests = SomeRequests(6);
  const auto want = Alone(Options(), requests);
  const ModelConfig config = MakeEngine(Options())->info().config;
  ballast::Random random(4);
  for (const int ranks : {2, 4}) {
    EngineOptions options = Options();
    options.ranks = ranks;
    const LayerShape shape = RandomShape(config, ranks, random);
    options.placement = PlacementFile(RandomLayers(config, shape, random), config.experts);
    ProcessEngine engine(options);
    ExpectSame(want, AskAll(*engine, requests));
    ExpectAllEndedWell(engine);
    std::filesystem::remove(options.placement);
  }
}

TEST_P(ProcessWorldTest, AThrottledRankChangesNothing) {
  const auto requests = SomeRequests(6);
  const auto want = Alone(Options(), requests);
  EngineOptions options = Options();
  options.ranks = 2;
  options.test_slow_rank = 1;
  options.test_slowdown = 4;
  ProcessEngine engine(options);
  ExpectSame(want, AskAll(*engine, requests));
  ExpectAllEndedWell(engine);
}

INSTANTIATE_TEST_SUITE_P(All, ProcessWorldTest, testing::ValuesIn(EverySetting()), SettingName);

TEST(ProcessWorld, ARankThatCannotLoadSaysWhyToTheLeader) {
  EngineOptions options;
  options.model = MiniModel();
  options.ranks = 2;
  options.machine_ranks = 2;
  options.threads = 1;
  options.kv_memory_bytes = 16 << 20;
  MemoryRendezvous rendezvous;
  ProcessGroup group;
  group.size = 2;
  group.rendezvous = &rendezvous;
  group.silence = std::chrono::minutes(5);
  absl::Status ended;
  std::thread follower([&] {
    EngineOptions other = options;
    other.model = GoldenFolder("mixtral");  // what the join handshake would have refused
    ProcessGroup own = group;
    own.rank = 1;
    ended = RunFollower(other, own, {});
  });
  const absl::Status status = Engine::Create(
                                  options, {}, [](size_t, size_t) {}, &group)
                                  .status();
  follower.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1: load order: found"));
  EXPECT_THAT(std::string(ended.message()), HasSubstr("load order: found"));
}

}  // namespace
}  // namespace ballast::test
