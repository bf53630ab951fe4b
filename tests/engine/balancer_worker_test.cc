// Balancing of a real engine from real load: the bundled model's experts specialise by domain.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <numeric>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/engine/invariance.h"
#include "tests/support/process_engine.h"

namespace ballast::test {
namespace {

using ::testing::HasSubstr;

// Sums: one domain, so a few experts get most rows.
std::vector<Request> Sums(const Tokenizer& tokenizer, int count) {
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    std::string text;
    for (int j = 0; j < 6; ++j) {
      const int a = (i * 31 + j * 17) % 90 + 5;
      text += "Q: What is " + std::to_string(a) + " + " + std::to_string(i + j) +
              "?\nA: " + std::to_string(a + i + j) + "\n";
    }
    Request request;
    request.id = "sum" + std::to_string(i);
    request.prompt = tokenizer.Encode(text, true).value();
    request.bypass_prefix_cache = true;
    request.sampling.temperature = 0.8f;
    request.sampling.seed = static_cast<uint64_t>(i);
    request.stopping.max_tokens = kOutputTokens;
    request.stopping.ignore_eos = true;
    request.response.logprobs = 0;
    requests.push_back(std::move(request));
  }
  return requests;
}

constexpr int kExperts = 32;  // of the bundled model
constexpr int kSpareSlots = 2;

class LearnedPlacementTest : public testing::Test {
 protected:
  ~LearnedPlacementTest() override { std::filesystem::remove(state_); }

  EngineOptions Options(int ranks) const {
    EngineOptions options;
    options.model = MiniModel();
    options.ranks = ranks;
    options.threads = 1;
    options.slots_per_rank = (kExperts + ranks - 1) / ranks + kSpareSlots;
    options.kv_memory_bytes = 32 << 20;
    options.replan_interval = 0.01;
    options.balance_state = state_;
    return options;
  }
  EngineOptions WithoutState(int ranks) const {
    EngineOptions options = Options(ranks);
    options.balance_state.clear();
    return options;
  }
  // Requests, and what one rank alone answers.
  std::pair<std::vector<Request>, std::vector<Answer>> SumsAndAnswers() {
    EngineOptions alone = WithoutState(1);
    alone.slots_per_rank = 0;
    const auto engine = MakeEngine(alone);
    std::vector<Request> requests = Sums(*engine->tokenizer(), 12);
    std::vector<Answer> answers = AskAll(*engine, requests);
    load_ = engine->GetExpertLoad();
    return {std::move(requests), std::move(answers)};
  }
  // The experts that sums want most, together on the first ranks: a replan has much to gain.
  void CrowdHotExperts(Engine& engine) const {
    PlacementRequest request;
    request.layers = engine.GetPlacement().layers;
    for (const LayerLoad& load : load_.layers) {
      const std::vector<int64_t>& rows = load.expert_rows;
      std::vector<int32_t> hottest_first(rows.size());
      std::iota(hottest_first.begin(), hottest_first.end(), 0);
      std::stable_sort(hottest_first.begin(), hottest_first.end(),
                       [&rows](int32_t a, int32_t b) { return rows[a] > rows[b]; });
      LayerPlacement& layer = request.layers[load.layer];
      std::fill(layer.slot_expert.begin(), layer.slot_expert.end(), -1);
      const int per_rank = layer.slots_per_rank - kSpareSlots;
      for (int i = 0; i < static_cast<int>(rows.size()); ++i) {
        layer.slot_expert[i / per_rank * layer.slots_per_rank + i % per_rank] = hottest_first[i];
      }
    }
    std::promise<absl::Status> applied;
    engine.ApplyPlacement(std::move(request), [&](absl::StatusOr<PlacementChange> change) {
      applied.set_value(change.status());
    });
    EXPECT_EQ(applied.get_future().get(), absl::OkStatus());
    engine.SetPaused(false);  // what was applied may change again
  }
  static void ExpectSameBits(const std::vector<Answer>& answers, const std::vector<Answer>& want) {
    ASSERT_EQ(answers.size(), want.size());
    for (size_t i = 0; i < answers.size(); ++i) {
      EXPECT_EQ(Bits(answers[i]), Bits(want[i])) << "request " << i;
    }
  }
  EngineEvents Listening() {
    EngineEvents events;
    events.on_notice = [this](bool, const std::string& text) {
      const std::lock_guard lock(mutex_);
      notices_ += text + "\n";
    };
    return events;
  }
  std::string notices() {
    const std::lock_guard lock(mutex_);
    return notices_;
  }
  // Sums go through the engine until it has changed its placement.
  void ServeUntilReplanned(Engine& engine, const std::vector<Request>& requests,
                           const std::vector<Answer>* want = nullptr) {
    const uint64_t before = engine.GetPlacement().version;
    for (int round = 0; round < 300 && engine.GetPlacement().version == before; ++round) {
      const std::vector<Answer> answers = AskAll(engine, requests);
      for (size_t i = 0; want != nullptr && i < answers.size(); ++i) {
        ASSERT_EQ(Bits(answers[i]), Bits((*want)[i])) << "request " << i << ", round " << round;
      }
    }
    EXPECT_GT(engine.GetPlacement().version, before);
  }

  // Of this process alone: other tests of this file run beside it.
  const std::string state_ = absl::StrCat(testing::TempDir(), "ballast_state_", getpid());

 private:
  ExpertLoad load_;  // of the sums
  std::mutex mutex_;
  std::string notices_;  // guarded by mutex_
};

TEST_F(LearnedPlacementTest, ReplansWhileGeneratingChangeNoBit) {
  const auto [requests, want] = SumsAndAnswers();
  for (const int ranks : {4, 8}) {  // two or three need none: lending in one process costs nothing
    const auto engine = MakeEngine(WithoutState(ranks), Listening());
    ServeUntilReplanned(*engine, requests, &want);
    EXPECT_THAT(notices(), HasSubstr("replan: "));
    ExpectSameBits(AskAll(*engine, requests), want);
  }
}

TEST_F(LearnedPlacementTest, ReplansOverProcessesChangeNoBit) {
  const auto [requests, want] = SumsAndAnswers();
  for (const int ranks : {2, 4}) {
    ProcessEngine engine(WithoutState(ranks), Listening());
    CrowdHotExperts(*engine);
    ServeUntilReplanned(*engine, requests, &want);
    ExpectSameBits(AskAll(*engine, requests), want);
  }
}

TEST_F(LearnedPlacementTest, SurvivesARestart) {
  std::vector<LayerPlacement> learned;
  {
    const auto engine = MakeEngine(Options(4), Listening());
    ServeUntilReplanned(*engine, Sums(*engine->tokenizer(), 12));
    engine->SetPaused(true);
    learned = engine->GetPlacement().layers;
  }
  ASSERT_TRUE(std::filesystem::exists(state_));
  const auto again = MakeEngine(Options(4), Listening());
  EXPECT_EQ(again->GetPlacement().version, 1);
  for (size_t layer = 0; layer < learned.size(); ++layer) {
    EXPECT_EQ(again->GetPlacement().layers[layer].slot_expert, learned[layer].slot_expert);
  }
  EXPECT_THAT(notices(), Not(HasSubstr("ignored")));
}

TEST_F(LearnedPlacementTest, AStateThatCannotBeKeptIsToldAtTheStart) {
  EngineOptions options = Options(2);
  options.balance_state = "/no/such/folder/state";
  const auto engine = MakeEngine(options, Listening());
  EXPECT_THAT(notices(), HasSubstr("balance state /no/such/folder/state will not be kept: "));
  EXPECT_THAT(notices(), HasSubstr("No such file or directory"));
}

TEST_F(LearnedPlacementTest, AStateOfOtherRanksOrBrokenIsIgnoredWithAWarning) {
  { const auto engine = MakeEngine(Options(4), Listening()); }
  ASSERT_TRUE(std::filesystem::exists(state_));
  EngineOptions other = Options(2);
  other.slots_per_rank = 16;
  {
    const auto engine = MakeEngine(other, Listening());
    EXPECT_THAT(notices(), HasSubstr("4 ranks"));
    EXPECT_THAT(notices(), HasSubstr("ignored"));
  }
  std::ofstream(state_) << "{\"fingerprint\": 7";
  const auto broken = MakeEngine(other, Listening());
  EXPECT_THAT(notices(), HasSubstr(state_ + " ignored: "));
}

}  // namespace
}  // namespace ballast::test
