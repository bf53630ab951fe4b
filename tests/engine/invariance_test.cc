// The promise: same prompt, same seed, same weights give bit-identical log-probabilities and
// tokens, whatever else is in the batch and however the work is cut. Compared with equality.
#include "tests/engine/invariance.h"

namespace ballast::test {
namespace {

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

INSTANTIATE_TEST_SUITE_P(All, InvarianceTest, testing::ValuesIn(Settings()), SettingName);

}  // namespace
}  // namespace ballast::test
