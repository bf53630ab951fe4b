#include "engine/logprobs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::Pair;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(Logprobs, AreTheLogSoftmaxOfTheLogits) {
  std::vector<float> logits;
  for (const double p : {0.1, 0.6, 0.25, 0.05}) {
    logits.push_back(static_cast<float>(std::log(p)) + 3.0f);
  }
  LogprobScratch scratch;
  const TokenLogprobs scored = ScoreToken(logits, 0, 2, scratch);
  EXPECT_EQ(scored.token, 0);
  EXPECT_EQ(scored.rank, 3);
  EXPECT_NEAR(*scored.logprob, std::log(0.1), 1e-6);
  EXPECT_THAT(scored.top, ElementsAre(Pair(1, FloatNear(std::log(0.6f), 1e-6f)),
                                      Pair(2, FloatNear(std::log(0.25f), 1e-6f))));
  EXPECT_TRUE(ScoreToken(logits, 0, 0, scratch).top.empty());
  EXPECT_EQ(ScoreToken(logits, 0, 9, scratch).top.size(), 4u);
}

TEST(Logprobs, TiesRankTheLowerTokenFirst) {
  LogprobScratch scratch;
  const TokenLogprobs scored = ScoreToken(std::vector<float>{1, 5, 5, 0, 5}, 2, 5, scratch);
  EXPECT_EQ(scored.rank, 2);
  std::vector<int32_t> ids;
  for (const auto& [token, logprob] : scored.top) ids.push_back(token);
  EXPECT_THAT(ids, ElementsAre(1, 2, 4, 0, 3));
}

TEST(Logprobs, TheBestAgreeWithAFullSort) {
  std::mt19937 random(9);
  std::vector<float> logits(5000);
  for (float& logit : logits) logit = static_cast<float>(random() % 1000) / 100.0f;  // many ties
  std::vector<int32_t> order(5000);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  LogprobScratch scratch;
  for (const int32_t top : {1, 7, 100, 2400, 4999, 5000}) {
    const TokenLogprobs scored = ScoreToken(logits, order[top - 1], top, scratch);
    EXPECT_EQ(scored.rank, top);
    ASSERT_EQ(scored.top.size(), static_cast<size_t>(top));
    for (int32_t i = 0; i < top; ++i) ASSERT_EQ(scored.top[i].first, order[i]);
    EXPECT_EQ(scored.top[top - 1].second, *scored.logprob);
  }
}

TEST(Logprobs, AreFiniteWhereLogitsAreNot) {
  LogprobScratch scratch;
  for (const std::vector<float>& logits :
       {std::vector<float>{kNaN, 1.0f, -kInfinity, kNaN, 0.5f}, {1.0f, kInfinity, kNaN}, {kNaN}}) {
    const TokenLogprobs scored = ScoreToken(logits, 0, 5, scratch);
    EXPECT_TRUE(std::isfinite(*scored.logprob));
    EXPECT_EQ(scored.top.size(), logits.size());
    for (const auto& [token, logprob] : scored.top) EXPECT_TRUE(std::isfinite(logprob));
  }
}

}  // namespace
}  // namespace ballast
