// What the engine computes equals Hugging Face transformers: every golden checkpoint in exact
// compute, log-probabilities of the whole vocabulary within 1e-4, expert ids and greedy tokens
// exact.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "tests/support/golden.h"
#include "tests/support/run_engine.h"

namespace ballast::test {
namespace {

std::vector<std::string> GoldenNames() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(GoldenFolder(""))) {
    if (entry.is_directory()) names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<double> LogSoftmax(const float* logits, int vocab) {
  const double most = *std::max_element(logits, logits + vocab);
  double sum = 0;
  for (int i = 0; i < vocab; ++i) sum += std::exp(logits[i] - most);
  std::vector<double> out(vocab);
  for (int i = 0; i < vocab; ++i) out[i] = logits[i] - most - std::log(sum);
  return out;
}

void ExpectEqualsTransformers(const std::string& folder, const std::string& kernels) {
  SCOPED_TRACE(folder);
  const Golden golden = ReadGolden(folder);
  EngineOptions options;
  options.model = folder;
  options.compute = "exact";
  options.kernels = kernels;
  options.threads = 1;
  const std::unique_ptr<Engine> engine = MakeEngine(options);
  ASSERT_NE(engine, nullptr);

  Request request;
  request.id = "golden";
  request.prompt = golden.ids;
  request.sampling.temperature = 0;
  request.stopping.max_tokens = static_cast<int>(golden.greedy.size());
  request.stopping.ignore_eos = true;
  request.response.prompt_logprobs = golden.vocab;
  request.response.return_routed_experts = true;
  const Answer answer = Ask(*engine, request);
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.outputs[0].tokens, golden.greedy);

  const auto tokens = static_cast<int>(golden.ids.size());
  ASSERT_EQ(answer.prompt_logprobs.size(), golden.ids.size());
  double worst = 0;
  for (int t = 1; t < tokens; ++t) {
    const auto want =
        LogSoftmax(golden.logits.data() + int64_t{t - 1} * golden.vocab, golden.vocab);
    ASSERT_EQ(answer.prompt_logprobs[t].top.size(), want.size());
    for (const auto& [token, logprob] : answer.prompt_logprobs[t].top) {
      worst = std::max(worst, std::abs(logprob - want[token]));
    }
  }
  EXPECT_LT(worst, 1e-4);

  const RoutedExperts& routed = answer.outputs[0].routed.value();
  ASSERT_EQ(routed.tokens, tokens + static_cast<int>(golden.greedy.size()) - 1);
  ASSERT_EQ(routed.layers.size(), golden.routed.size());
  for (size_t l = 0; l < routed.layers.size(); ++l) {
    const std::vector<int32_t>& want = golden.routed.at(routed.layers[l]);
    for (int t = 0; t < tokens; ++t) {
      std::vector<int32_t> a(want.begin() + t * routed.k, want.begin() + (t + 1) * routed.k);
      std::vector<int32_t> b;
      for (int j = 0; j < routed.k; ++j) {
        b.push_back(static_cast<uint8_t>(
            routed.ids[(t * routed.layers.size() + l) * routed.k + static_cast<size_t>(j)]));
      }
      std::sort(a.begin(), a.end());
      std::sort(b.begin(), b.end());
      ASSERT_EQ(a, b) << "layer " << routed.layers[l] << " token " << t;
    }
  }
}

class GoldenTest : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(GoldenTest, EqualsTransformers) {
  const auto& [name, kernels] = GetParam();
  ExpectEqualsTransformers(GoldenFolder(name), kernels);
}

// Copies too large for this repository lie beside it on the machines where we work.
TEST(GoldenCopies, EqualTransformersToo) {
  const std::filesystem::path shared = std::string(BALLAST_SOURCE_DIR) + "/../shared/goldens";
  if (!std::filesystem::exists(shared)) GTEST_SKIP() << "no " << shared << ": copies not compared";
  int compared = 0;
  for (const auto& entry : std::filesystem::directory_iterator(shared)) {
    const std::string name = entry.path().filename();
    const bool ours = name.starts_with("deepseek_v3") || name.starts_with("qwen3_moe") ||
                      name.starts_with("olmoe") || name.starts_with("mixtral");
    if (!ours || std::filesystem::exists(GoldenFolder(name))) continue;
    ExpectEqualsTransformers(entry.path(), "auto");
    ++compared;
  }
  EXPECT_GT(compared, 0);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTest,
                         testing::Combine(testing::ValuesIn(GoldenNames()),
                                          testing::Values("reference", "auto")),
                         [](const auto& test) {
                           std::string name =
                               std::get<0>(test.param) + "_" + std::get<1>(test.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace ballast::test
