#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "tests/kernels/kernel_sets.h"

namespace ballast {
namespace {

class Router : public KernelSets {};
INSTANTIATE_TEST_SUITE_P(All, Router, ::testing::ValuesIn(kKernelSets), NameOfSet);

struct Choices {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

Choices Route(const Runner& runner, const RouterConfig& config, const std::vector<float>& logits,
              const float* bias = nullptr) {
  const int64_t rows = static_cast<int64_t>(logits.size()) / config.experts;
  const size_t picks = static_cast<size_t>(rows * config.k);
  Choices choices{std::vector<int32_t>(picks), std::vector<float>(picks)};
  std::vector<float> copy = logits;
  runner->route(runner.stream(), {copy.data(), DType::kF32, rows, config.experts, config.experts},
                config, bias, choices.ids.data(), choices.weights.data());
  return choices;
}

// The definition, in float64.
Choices Oracle(const RouterConfig& config, const std::vector<float>& logits, const float* bias) {
  const size_t experts = static_cast<size_t>(config.experts);
  Choices choices;
  for (size_t row = 0; row < logits.size(); row += experts) {
    std::vector<double> p(logits.begin() + static_cast<int64_t>(row),
                          logits.begin() + static_cast<int64_t>(row + experts));
    double sum = 0;
    const double top = *std::max_element(p.begin(), p.end());
    for (double& x : p) {
      sum += std::exp(x - top);
      x = config.score == RouterScore::kSigmoid ? 1 / (1 + std::exp(-x)) : std::exp(x - top);
    }
    std::vector<double> choice;
    for (size_t i = 0; i < experts; ++i) {
      if (config.score == RouterScore::kSoftmax) p[i] /= sum;
      choice.push_back(p[i] + (bias == nullptr ? 0.0 : bias[i]));
    }
    const auto best_of = [](const std::vector<double>& values, int32_t n) {
      std::vector<int32_t> order(values.size());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
      });
      order.resize(static_cast<size_t>(n));
      return order;
    };
    if (config.groups > 1) {
      const size_t size = experts / static_cast<size_t>(config.groups);
      std::vector<double> worth;
      for (size_t g = 0; g < experts; g += size) {
        std::vector<double> group(choice.begin() + static_cast<int64_t>(g),
                                  choice.begin() + static_cast<int64_t>(g + size));
        std::sort(group.rbegin(), group.rend());
        worth.push_back(group[0] + group[1]);
      }
      const std::vector<int32_t> kept = best_of(worth, config.topk_group);
      for (size_t i = 0; i < experts; ++i) {
        if (std::find(kept.begin(), kept.end(), static_cast<int32_t>(i / size)) == kept.end()) {
          choice[i] = -INFINITY;
        }
      }
    }
    double total = 0;
    for (const int32_t id : best_of(choice, config.k)) total += p[static_cast<size_t>(id)];
    for (const int32_t id : best_of(choice, config.k)) {
      double weight = p[static_cast<size_t>(id)];
      if (config.normalize) weight /= total + static_cast<double>(config.normalize_epsilon);
      choices.ids.push_back(id);
      choices.weights.push_back(static_cast<float>(weight * config.scale));
    }
  }
  return choices;
}

TEST_P(Router, EqualsTheDefinition) {
  const Runner runner(GetParam(), 2);
  const Runner reference("reference");
  for (const RouterScore score : {RouterScore::kSoftmax, RouterScore::kSigmoid}) {
    for (const int32_t experts : {8, 24, 60}) {
      for (const int32_t groups : {1, 4}) {
        for (const bool normalize : {false, true}) {
          const RouterConfig config{score, experts, 3, groups, 2, normalize, 1e-20f, 2.5f};
          const std::vector<float> logits = RandomFloats(50 * experts, 1, 2.0f);
          // Mostly negative: a masked group must lose to any of them.
          std::vector<float> bias = RandomFloats(experts, 2);
          for (float& b : bias) b -= 2.0f;
          for (const float* b : std::initializer_list<const float*>{nullptr, bias.data()}) {
            const Choices choices = Route(runner, config, logits, b);
            const Choices exact = Oracle(config, logits, b);
            const Choices same = Route(reference, config, logits, b);
            EXPECT_EQ(choices.ids, exact.ids);
            EXPECT_EQ(choices.weights, same.weights);
            for (size_t i = 0; i < exact.weights.size(); ++i) {
              // Score 8 roundings, its sums and quotients another handful.
              ASSERT_NEAR(choices.weights[i], exact.weights[i],
                          30 * kF32Rounding * exact.weights[i]);
            }
          }
        }
      }
    }
  }
}

TEST_P(Router, TiesGoToTheLowerExpert) {
  const Runner runner(GetParam());
  const RouterConfig config{RouterScore::kSoftmax, 6, 3, 1, 1, false, 0.0f, 1.0f};
  const Choices choices = Route(runner, config, {1.0f, 2.0f, 1.0f, 2.0f, 1.0f, 0.0f});
  EXPECT_EQ(choices.ids, (std::vector<int32_t>{1, 3, 0}));
}

TEST_P(Router, TiedGroupsGoToTheLowerGroup) {
  const Runner runner(GetParam());
  const RouterConfig config{RouterScore::kSigmoid, 6, 2, 3, 1, false, 0.0f, 1.0f};
  const Choices choices = Route(runner, config, {-5.0f, -5.0f, 1.0f, 2.0f, 2.0f, 1.0f});
  EXPECT_EQ(choices.ids, (std::vector<int32_t>{3, 2}));
}

TEST_P(Router, TheBiasChoosesButDoesNotWeigh) {
  const Runner runner(GetParam());
  const RouterConfig config{RouterScore::kSigmoid, 4, 1, 1, 1, false, 0.0f, 1.0f};
  const float bias[] = {0.0f, 0.0f, 5.0f, 0.0f};
  const Choices choices = Route(runner, config, {3.0f, 2.0f, 0.0f, 1.0f}, bias);
  EXPECT_EQ(choices.ids, (std::vector<int32_t>{2}));
  EXPECT_EQ(choices.weights, (std::vector<float>{0.5f}));
}

TEST_P(Router, NaNGivesValidDistinctExperts) {
  const Runner runner(GetParam());
  for (const RouterScore score : {RouterScore::kSoftmax, RouterScore::kSigmoid}) {
    for (const int32_t groups : {1, 4}) {
      const RouterConfig config{score, 8, 4, groups, 2, true, 1e-20f, 1.0f};
      std::vector<float> logits(40, std::nanf(""));
      for (size_t i = 8; i < 16; ++i) logits[i] = -INFINITY;
      for (size_t i = 16; i < 24; ++i) logits[i] = INFINITY;
      logits[30] = 1.0f;
      const Choices choices = Route(runner, config, logits);
      for (size_t row = 0; row < 20; row += 4) {
        std::set<int32_t> distinct;
        for (size_t j = row; j < row + 4; ++j) {
          ASSERT_GE(choices.ids[j], 0);
          ASSERT_LT(choices.ids[j], 8);
          distinct.insert(choices.ids[j]);
        }
        EXPECT_EQ(distinct.size(), 4u);
      }
    }
  }
}

TEST_P(Router, GroupsOfOneExpertAreWorthThatExpert) {
  const Runner runner(GetParam());
  const RouterConfig config{RouterScore::kSigmoid, 4, 2, 4, 2, false, 0.0f, 1.0f};
  EXPECT_EQ(Route(runner, config, {1.0f, 3.0f, 2.0f, 0.0f}).ids, (std::vector<int32_t>{1, 2}));
}

}  // namespace
}  // namespace ballast
