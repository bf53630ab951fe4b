// The promise: same prompt, same seed, same weights give bit-identical log-probabilities and
// tokens, whatever else is in the batch and however the work is cut. Compared with equality.
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "engine/moe/placement_export.h"
#include "tests/support/golden.h"
#include "tests/support/run_engine.h"
#include "tools/balance_cases.h"

namespace ballast::test {
namespace {

constexpr int kOutputTokens = 20;

std::string MiniModel() { return std::string(BALLAST_SOURCE_DIR) + "/models/ballast-mini"; }

struct Setting {
  std::string model;
  std::string compute;
};

// A third of the requests is greedy, the others draw with filters and penalties.
std::vector<Request> Requests(int count, int vocab) {
  std::mt19937 random(7);
  std::vector<Request> requests;
  constexpr int kLengths[] = {1, 3, 15, 16, 17, 31, 64, 90};
  for (int i = 0; i < count; ++i) {
    Request r;
    r.id = "r" + std::to_string(i);
    const int length = kLengths[random() % std::size(kLengths)];
    for (int j = 0; j < length; ++j) {
      r.prompt.push_back(static_cast<int32_t>(3 + random() % static_cast<uint32_t>(vocab - 3)));
    }
    r.sampling.temperature = i % 3 == 0 ? 0.0f : 0.9f;
    r.sampling.top_p = 0.95f;
    r.sampling.top_k = i % 2 == 0 ? 40 : 0;
    r.sampling.repetition_penalty = i % 4 == 1 ? 1.2f : 1.0f;
    r.sampling.seed = static_cast<uint64_t>(i);
    r.stopping.max_tokens = kOutputTokens;
    r.stopping.ignore_eos = true;
    r.response.logprobs = 0;
    requests.push_back(std::move(r));
  }
  return requests;
}

class InvarianceTest : public testing::TestWithParam<Setting> {
 protected:
  EngineOptions Options() const {
    EngineOptions options;
    options.model = GetParam().model;
    options.compute = GetParam().compute;
    options.threads = 1;
    options.kv_memory_bytes = 16 << 20;
    return options;
  }
  // Each request alone, on an engine without cached prefixes.
  std::vector<Answer> Alone(const EngineOptions& options, std::vector<Request> requests) {
    const auto engine = MakeEngine(options);
    std::vector<Answer> answers;
    for (Request& r : requests) {
      r.bypass_prefix_cache = true;
      answers.push_back(Ask(*engine, r));
    }
    return answers;
  }
  std::vector<Request> SomeRequests(int count) {
    return Requests(count, MakeEngine(Options())->info().config.vocab_size);
  }
  static void ExpectSame(const std::vector<Answer>& a, const std::vector<Answer>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_TRUE(a[i].status.ok() && b[i].status.ok()) << a[i].status << b[i].status;
      EXPECT_EQ(a[i].outputs[0].logprobs.size(), kOutputTokens);
      EXPECT_EQ(Bits(a[i]), Bits(b[i])) << "request " << i;
    }
  }
};

TEST_P(InvarianceTest, AloneEqualsInABatchWith31Others) {
  const auto requests = SomeRequests(32);
  ExpectSame(Alone(Options(), requests), AskAll(*MakeEngine(Options()), requests));
}

TEST_P(InvarianceTest, ChunksOfPrefillChangeNothing) {
  const auto requests = SomeRequests(8);
  const auto want = Alone(Options(), requests);
  for (const int chunk : {1, 7, 64}) {
    EngineOptions options = Options();
    options.step_tokens = chunk;
    ExpectSame(want, Alone(options, requests));
  }
}

TEST_P(InvarianceTest, ACachedPrefixChangesNothing) {
  auto requests = SomeRequests(12);
  const auto want = Alone(Options(), requests);
  const auto engine = MakeEngine(Options());
  ExpectSame(want, AskAll(*engine, requests));
  int cached = 0;
  std::vector<Answer> again;
  for (const Request& r : requests) {
    again.push_back(Ask(*engine, r));
    cached += again.back().usage.cached_prompt_tokens;
  }
  ExpectSame(want, again);
  EXPECT_GT(cached, 0);
}

TEST_P(InvarianceTest, PreemptionChangesNothing) {
  const auto requests = SomeRequests(16);
  const auto want = Alone(Options(), requests);
  int preemptions = 0;
  EngineEvents events;
  events.on_step = [&](const StepReport& report) { preemptions += report.preemptions; };
  EngineOptions options = Options();
  // Room for two or three of the longest sequences (110 tokens, 7 blocks).
  const auto probe = MakeEngine(options);
  options.kv_memory_bytes = options.kv_memory_bytes * 16 * 16 / probe->info().limits.kv_tokens;
  ExpectSame(want, AskAll(*MakeEngine(options, events), requests));
  EXPECT_GT(preemptions, 0);
}

TEST_P(InvarianceTest, ThreadsChangeNothing) {
  const auto requests = SomeRequests(8);
  const auto want = Alone(Options(), requests);
  for (const int threads : {2, 4}) {
    EngineOptions options = Options();
    options.threads = threads;
    ExpectSame(want, AskAll(*MakeEngine(options), requests));
  }
}

TEST_P(InvarianceTest, RanksChangeNothing) {
  const auto requests = SomeRequests(12);
  const auto want = Alone(Options(), requests);
  for (const int ranks : {2, 3, 4, 8}) {
    EngineOptions options = Options();
    options.ranks = ranks;
    ExpectSame(want, AskAll(*MakeEngine(options), requests));
  }
}

// `layers` of any legal shape, as a file that an engine reads.
std::string PlacementFile(const std::vector<LayerPlacement>& layers, int experts) {
  std::string path = testing::TempDir() + "ballast_placement_XXXXXX";
  const int file = mkstemp(path.data());
  EXPECT_GE(file, 0);
  close(file);
  std::ofstream(path) << ExportPlacement(layers, experts, PlacementFormat::kYaml).text;
  return path;
}

TEST_P(InvarianceTest, PlacementsChangeNothing) {
  const auto requests = SomeRequests(8);
  const auto want = Alone(Options(), requests);
  const ModelConfig config = MakeEngine(Options())->info().config;
  ballast::Random random(3);
  for (const int ranks : {2, 3, 4, 8}) {
    EngineOptions options = Options();
    options.ranks = ranks;
    const int fewest = (config.experts + ranks - 1) / ranks;
    const LayerShape shape{
        .ranks = ranks, .experts = config.experts, .slots_per_rank = fewest + random(1, 3)};
    std::vector<LayerPlacement> layers(config.layers, LayerPlacement{ranks, 0, {}});
    for (const int layer : MoeLayers(config)) layers[layer] = RandomPlacement(shape, random);
    options.placement = PlacementFile(layers, config.experts);
    ExpectSame(want, AskAll(*MakeEngine(options), requests));
    std::filesystem::remove(options.placement);
  }
}

TEST_P(InvarianceTest, TheSameSeedDrawsTheSameTwice) {
  const auto engine = MakeEngine(Options());
  auto requests = Requests(6, engine->info().config.vocab_size);
  ExpectSame(AskAll(*engine, requests), AskAll(*engine, requests));
}

std::vector<Setting> Settings() {
  std::vector<Setting> settings;
  for (const char* compute : {"exact", "bf16"}) {
    for (const char* name : {"deepseek_v3-groups", "deepseek_v3-qlora-yarn", "qwen3_moe-mixed",
                             "olmoe-clip", "mixtral", "deepseek_v3-odd", "qwen3_moe-window"}) {
      settings.push_back({GoldenFolder(name), compute});
    }
    settings.push_back({MiniModel(), compute});
  }
  return settings;
}

INSTANTIATE_TEST_SUITE_P(All, InvarianceTest, testing::ValuesIn(Settings()), [](const auto& test) {
  std::string name =
      test.param.model.substr(test.param.model.rfind('/') + 1) + "_" + test.param.compute;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace ballast::test
