// The whole engine on GPUs, emulated or not: in exact compute the CPU's bits, on any number of
// ranks, whatever is balanced, lent and moved; in bf16 its own, the same on any number. With fewer
// GPUs than ranks a test checks what it can and is skipped then.
#include <gmock/gmock.h>

#include <cmath>

#include "tests/engine/moving.h"
#include "tests/support/gpus.h"
#include "tests/support/process_engine.h"

namespace ballast::test {
namespace {

using testing::HasSubstr;

class GpuModelTest : public MovingTest {
 protected:
  EngineOptions GpuOptions(int ranks) const {
    EngineOptions options = Options();
    options.device = "cuda";
    options.ranks = ranks;
    return options;
  }
  // The bits that GPUs must give: the CPU's, or one GPU's.
  std::vector<Answer> Want(const std::vector<Request>& requests) {
    EngineOptions options = Options();
    if (GetParam().compute == "bf16") options.device = "cuda";
    return Alone(options, requests);
  }
};

TEST_P(GpuModelTest, RanksGiveTheSameBits) {
  const auto requests = SomeRequests(6);
  const auto want = Want(requests);
  for (const int ranks : {1, 2, 4}) {
    SCOPED_TRACE(ranks);
    if (const std::string few = TooFewGpus(ranks); !few.empty()) GTEST_SKIP() << few;
    ExpectSame(want, AskAll(*MakeEngine(GpuOptions(ranks)), requests));
  }
}

// A GPU alone runs its experts without the host, which learns at the end of a step what ranks learn
// layer by layer.
TEST_P(GpuModelTest, AloneTellsTheSameRouting) {
  if (const std::string few = TooFewGpus(2); !few.empty()) GTEST_SKIP() << few;
  Request request = SomeRequests(1)[0];
  request.response.return_routed_experts = true;
  request.stopping.max_tokens = 5;
  struct Told {
    std::string ids;
    std::vector<int64_t> rows;  // of each expert, then those that ran, by layer
  };
  const auto ask = [&](int ranks) {
    Told told;
    EngineEvents events;
    events.on_step = [&](const StepReport& report) {
      std::vector<int64_t> step;
      for (const RankResult& rank : report.result->ranks) {
        std::vector<int64_t> both = rank.expert_rows;
        both.insert(both.end(), rank.run_rows.begin(), rank.run_rows.end());
        step.resize(both.size());
        for (size_t i = 0; i < both.size(); ++i) step[i] += both[i];
      }
      told.rows.resize(step.size());
      for (size_t i = 0; i < step.size(); ++i) told.rows[i] += step[i];
    };
    auto engine = MakeEngine(GpuOptions(ranks), events);
    told.ids = Ask(*engine, request).outputs[0].routed.value().ids;
    engine.reset();  // the last step has been told of
    return told;
  };
  const Told alone = ask(1);
  const Told two = ask(2);
  EXPECT_FALSE(alone.ids.empty());
  EXPECT_TRUE(alone.ids == two.ids);
  EXPECT_EQ(alone.rows, two.rows);
}

// Experts that change places on their one GPU are found there.
TEST_P(GpuModelTest, AloneFindsExpertsInAnySlot) {
  const auto requests = SomeRequests(1);
  ballast::Random random(7);
  EngineOptions options = GpuOptions(1);
  const ModelConfig config = MakeEngine(Options())->info().config;
  const LayerShape shape = RandomShape(config, 1, random);
  options.slots_per_rank = shape.slots_per_rank;
  const auto engine = MakeEngine(options);
  std::promise<absl::StatusOr<PlacementChange>> answer;
  PlacementRequest request;
  request.layers = RandomLayers(config, shape, random);
  engine->ApplyPlacement(std::move(request), [&](absl::StatusOr<PlacementChange> change) {
    answer.set_value(std::move(change));
  });
  ExpectSame(Want(requests), AskAll(*engine, requests));
  const absl::StatusOr<PlacementChange> change = answer.get_future().get();
  ASSERT_TRUE(change.ok()) << change.status();
}

// Weights go from GPU to GPU in every layer of every step.
TEST_P(GpuModelTest, LentExpertsChangeNothing) {
  if (const std::string few = TooFewGpus(3); !few.empty()) GTEST_SKIP() << few;
  const auto requests = SomeRequests(4);
  const auto want = Want(requests);
  int64_t spilled = 0;
  EngineEvents events;
  events.on_step = [&](const StepReport& report) {
    for (const LayerBalance& layer : report.result->ranks[0].balance) spilled += layer.spilled_rows;
  };
  EngineOptions options = GpuOptions(3);
  options.test_force_spills = true;
  ExpectSame(want, AskAll(*MakeEngine(options, events), requests));
  EXPECT_GT(spilled, 0);
}

// Experts move from GPU to GPU while tokens are generated.
TEST_P(GpuModelTest, MovedExpertsChangeNothing) {
  if (const std::string few = TooFewGpus(2); !few.empty()) GTEST_SKIP() << few;
  const auto requests = SomeRequests(4);
  const auto want = Want(requests);
  ballast::Random random(5);
  EngineOptions options = GpuOptions(2);
  const ModelConfig config = MakeEngine(Options())->info().config;
  const LayerShape shape = RandomShape(config, options.ranks, random);
  options.slots_per_rank = shape.slots_per_rank;
  const auto engine = MakeEngine(options);
  ExpectSameWhileMoving(*engine, shape, random, requests, want, /*rounds=*/1, /*version=*/2);
}

// Ranks that are processes, here threads: rows and weights over TCP, through the host's memory, or
// over NCCL.
TEST_P(GpuModelTest, ProcessesGiveTheSameBits) {
  if (const std::string few = TooFewGpus(2); !few.empty()) GTEST_SKIP() << few;
  const auto requests = SomeRequests(4);
  const auto want = Want(requests);
  for (const char* communicator : {"gloo", "nccl"}) {
    SCOPED_TRACE(communicator);
    EngineOptions options = GpuOptions(2);
    options.communicator = communicator;
    options.test_force_spills = true;
    ProcessEngine engine(options);
    ExpectSame(want, AskAll(*engine, requests));
    EXPECT_EQ(engine.Stop()[1], absl::OkStatus());
  }
}

std::vector<Setting> GpuSettings() {
  std::vector<Setting> settings;
  for (const char* name : {"deepseek_v3-odd", "olmoe-odd", "qwen3_moe-window"}) {
    settings.push_back({GoldenFolder(name), "exact"});
    settings.push_back({GoldenFolder(name), "bf16"});
  }
  settings.push_back({MiniModel(), "exact"});
  return settings;
}

INSTANTIATE_TEST_SUITE_P(All, GpuModelTest, testing::ValuesIn(GpuSettings()), SettingName);

// All goldens, with every rank count, against the CPU.
class GpuGoldenTest : public GpuModelTest {};

TEST_P(GpuGoldenTest, EqualsTheCpu) {
  const Golden golden = ReadGolden(GetParam().model);
  Request request;
  request.id = "golden";
  request.prompt = golden.ids;
  request.sampling.temperature = 0;
  request.stopping.max_tokens = kOutputTokens;
  request.stopping.ignore_eos = true;
  request.response.logprobs = 0;
  request.response.prompt_logprobs = 0;
  const auto want = Alone(Options(), {request});
  for (const int ranks : {1, 2, 4}) {
    if (const std::string few = TooFewGpus(ranks); !few.empty()) GTEST_SKIP() << few;
    ExpectSame(want, AskAll(*MakeEngine(GpuOptions(ranks)), {request}));
  }
}

INSTANTIATE_TEST_SUITE_P(All, GpuGoldenTest, testing::ValuesIn([] {
                           std::vector<Setting> settings;
                           for (const Setting& setting : EverySetting()) {
                             if (setting.model != MiniModel()) settings.push_back(setting);
                           }
                           return settings;
                         }()),
                         SettingName);

// In bf16 the GPU's sums have another order than the CPU's. Log-probabilities differ by what
// rounding activations to bf16 does, on either device.
TEST(GpuModel, InBf16LogProbabilitiesAreNearTheCpus) {
  const Golden golden = ReadGolden(GoldenFolder("deepseek_v3-groups"));
  Request request;
  request.id = "golden";
  request.prompt = golden.ids;
  request.stopping.max_tokens = 1;
  request.response.prompt_logprobs = golden.vocab;
  const auto ask = [&](const char* device, const char* compute) {
    EngineOptions options;
    options.model = GoldenFolder("deepseek_v3-groups");
    options.compute = compute;
    options.device = device;
    return Ask(*MakeEngine(options), request);
  };
  const auto error = [](const Answer& a, const Answer& exact) {
    double squares = 0;
    double count = 0;
    for (size_t t = 1; t < exact.prompt_logprobs.size(); ++t) {
      std::vector<double> want(exact.prompt_logprobs[t].top.size());
      for (const auto& [token, logprob] : exact.prompt_logprobs[t].top) want[token] = logprob;
      for (const auto& [token, logprob] : a.prompt_logprobs[t].top) {
        squares += (logprob - want[token]) * (logprob - want[token]);
        ++count;
      }
    }
    return std::sqrt(squares / count);
  };
  const Answer exact = ask("cpu", "exact");
  const double cpu = error(ask("cpu", "bf16"), exact);
  EXPECT_GT(cpu, 0);
  EXPECT_LT(error(ask("cuda", "bf16"), exact), 1.5 * cpu);
}

TEST(GpuModel, SaysWhatDoesNotFit) {
  const auto error = [](const EngineOptions& options) {
    return std::string(Engine::Create(options, {}, [](size_t, size_t) {}).status().message());
  };
  const std::vector<std::string>& gpus = FindGpus().gpus;
  EngineOptions options;
  options.model = MiniModel();
  options.device = "cuda";
  options.ranks = static_cast<int>(gpus.size()) + 1;
  EXPECT_THAT(error(options),
              HasSubstr("--ranks: found " + std::to_string(options.ranks) +
                        " on this machine, expected at most " + std::to_string(gpus.size()) +
                        ", one for each GPU (GPU 0: " + gpus[0] + ")"));
  options.ranks = 1;
  options.kernels = "avx2";
  EXPECT_THAT(error(options), HasSubstr("--kernels: found \"avx2\" with --device cuda"));
  options.kernels = "auto";
  options.kv_memory_bytes = int64_t{1} << 50;
  EXPECT_THAT(error(options), HasSubstr("the model does not fit: weights "));
  EXPECT_THAT(error(options), HasSubstr("of the memory of GPU 0 are available"));
}

}  // namespace
}  // namespace ballast::test
