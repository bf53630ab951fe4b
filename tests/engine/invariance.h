// What tests of the promise share: requests, and answers that must be equal to the bit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/golden.h"
#include "tests/support/run_engine.h"

namespace ballast::test {

inline constexpr int kOutputTokens = 20;

inline std::string MiniModel() { return std::string(BALLAST_SOURCE_DIR) + "/models/ballast-mini"; }

struct Setting {
  std::string model;
  std::string compute;
};
// For the names that ctest shows.
inline void PrintTo(const Setting& setting, std::ostream* out) {
  *out << setting.model << ", " << setting.compute;
}

// A third of the requests is greedy, the others draw with filters and penalties; a quarter asks
// for the prompt's log-probabilities too.
inline std::vector<Request> Requests(int count, int vocab) {
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
    if (i % 4 == 2) r.response.prompt_logprobs = 0;
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

// All goldens with float32 activations; the bundled model in both computes.
inline std::vector<Setting> EverySetting() {
  std::vector<Setting> settings = {{MiniModel(), "exact"}, {MiniModel(), "bf16"}};
  const std::filesystem::path goldens =
      std::filesystem::path(GoldenFolder("mixtral")).parent_path();
  for (const auto& entry : std::filesystem::directory_iterator(goldens)) {
    if (entry.is_directory()) settings.push_back({entry.path().string(), "exact"});
  }
  return settings;
}

// "deepseek_v3_odd_bf16"
inline std::string SettingName(const testing::TestParamInfo<Setting>& test) {
  std::string name =
      test.param.model.substr(test.param.model.rfind('/') + 1) + "_" + test.param.compute;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

}  // namespace ballast::test
