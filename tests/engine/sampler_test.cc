#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::Pair;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A row and the side arrays it indexes.
struct Case {
  std::vector<float> logits = {};
  SampleRow row = {};
  std::vector<std::pair<int32_t, float>> bias = {};
  std::vector<int32_t> banned = {};
  std::vector<TokenCount> history = {};

  Sampled Run(SampleScratch& scratch) const {
    SampleRow ranged = row;
    ranged.bias = {0, static_cast<int32_t>(bias.size())};
    ranged.banned = {0, static_cast<int32_t>(banned.size())};
    ranged.history = {0, static_cast<int32_t>(history.size())};
    return Sample(logits, ranged, {bias, banned, history}, scratch);
  }

  int32_t Token(SampleScratch& scratch) const { return Run(scratch).token; }

  int32_t Token() const {
    SampleScratch scratch;
    return Token(scratch);
  }
};

Case Greedy(std::vector<float> logits) {
  Case greedy{.logits = std::move(logits)};
  greedy.row.temperature = 0;
  return greedy;
}

// Logits of given probabilities.
Case Draws(const std::vector<double>& probabilities) {
  Case draws;
  for (const double p : probabilities) {
    draws.logits.push_back(static_cast<float>(std::log(p)));
  }
  return draws;
}

// Counts of `draws` tokens at successive positions.
std::vector<int> Histogram(Case drawn, int draws) {
  SampleScratch scratch;
  std::vector<int> counts(drawn.logits.size());
  for (int i = 0; i < draws; ++i) {
    drawn.row.position = i;
    ++counts[drawn.Token(scratch)];
  }
  return counts;
}

std::set<int32_t> Support(const Case& drawn, int draws = 2000) {
  std::set<int32_t> support;
  const std::vector<int> counts = Histogram(drawn, draws);
  for (size_t token = 0; token < counts.size(); ++token) {
    if (counts[token] > 0) {
      support.insert(static_cast<int32_t>(token));
    }
  }
  return support;
}

// Pearson's statistic; a true sampler stays below the bound but once in 10,000 (Wilson and
// Hilferty's approximation), and with fixed seeds always or never.
void ExpectDistribution(const std::vector<int>& counts, const std::vector<double>& expected) {
  const double draws = std::accumulate(counts.begin(), counts.end(), 0.0);
  double statistic = 0;
  int cells = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (expected[i] == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i;
      continue;
    }
    const double mean = draws * expected[i];
    statistic += (counts[i] - mean) * (counts[i] - mean) / mean;
    ++cells;
  }
  const double k = cells - 1;
  const double root = 1 - 2 / (9 * k) + 3.72 * std::sqrt(2 / (9 * k));
  EXPECT_LT(statistic, k * root * root * root);
}

TEST(Philox, AgreesWithTheVectorsOfRandom123) {
  EXPECT_THAT(Philox4x32({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_THAT(Philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(
      Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
      ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(UniformDraw, MakesAFractionOfTheFirstTwoWords) {
  EXPECT_EQ(UniformDraw(0, 0, 0),
            static_cast<double>(0xe169c58d6627e8d5 >> 11) * std::pow(2.0, -53));
  EXPECT_NE(UniformDraw(1, 0, 0), UniformDraw(uint64_t{1} << 32, 0, 0));
  EXPECT_NE(UniformDraw(0, 1, 0), UniformDraw(0, 0, 1));
}

TEST(UniformDraw, IsUniformOverPositionsSeedsAndOutputs) {
  std::vector<int> by_position(64);
  std::vector<int> by_seed(64);
  std::vector<int> by_output(64);
  for (int32_t i = 0; i < 64000; ++i) {
    ++by_position[static_cast<size_t>(UniformDraw(5, 0, i) * 64)];
    ++by_seed[static_cast<size_t>(UniformDraw(static_cast<uint64_t>(i), 0, 9) * 64)];
    ++by_output[static_cast<size_t>(UniformDraw(5, i, 9) * 64)];
  }
  const std::vector<double> uniform(64, 1.0 / 64);
  ExpectDistribution(by_position, uniform);
  ExpectDistribution(by_seed, uniform);
  ExpectDistribution(by_output, uniform);
}

TEST(Sampler, GreedyTakesTheLargestAndTheLowerOfEqualOnes) {
  EXPECT_EQ(Greedy({1, 3, 2}).Token(), 1);
  EXPECT_EQ(Greedy({1, 3, 3, 3}).Token(), 1);
  std::vector<float> many(1000, -1.0f);
  many[771] = many[772] = 0.0f;
  EXPECT_EQ(Greedy(many).Token(), 771);
}

TEST(Sampler, BiasAndBansComeBeforeGreedy) {
  Case biased = Greedy({1, 3, 2});
  biased.bias = {{0, 2.5f}};
  EXPECT_EQ(biased.Token(), 0);
  biased.bias = {{0, 2.5f}, {1, -10.0f}, {2, 2.0f}};
  EXPECT_EQ(biased.Token(), 2);
  biased.banned = {2};
  EXPECT_EQ(biased.Token(), 0);
  biased.bias = {{2, std::numeric_limits<float>::max()}};
  EXPECT_EQ(biased.Token(), 1);
}

TEST(Sampler, RepetitionDividesPositiveAndMultipliesNegativeLogits) {
  Case repeated = Greedy({4.0f, 3.0f, -1.0f});
  repeated.row.repetition_penalty = 1.5f;
  repeated.history = {{0, 0}};
  EXPECT_EQ(repeated.Token(), 1);
  repeated.logits = {-1.0f, -1.2f, -9.0f};
  repeated.history = {{0, 3}};
  EXPECT_EQ(repeated.Token(), 1);
  repeated.row.repetition_penalty = 1.1f;
  EXPECT_EQ(repeated.Token(), 0);
}

TEST(Sampler, FrequencyAndPresenceCountTheOutputOnly) {
  Case counted = Greedy({2.0f, 1.0f});
  counted.row.frequency_penalty = 0.4f;
  counted.history = {{0, 2}};
  EXPECT_EQ(counted.Token(), 0);
  counted.history = {{0, 3}};
  EXPECT_EQ(counted.Token(), 1);
  counted.history = {{0, 0}};
  counted.row.presence_penalty = 2.0f;
  EXPECT_EQ(counted.Token(), 0);
  counted.history = {{0, 1}};
  EXPECT_EQ(counted.Token(), 1);
  counted.row.presence_penalty = -2.0f;
  EXPECT_EQ(counted.Token(), 0);
}

TEST(Sampler, BiasComesBeforePenalties) {
  // (-1 + 3) / 2 = 1 loses to 1.2; -1 * 2 + 3 = 1 would as well, but (2 + 3) / 2 = 2.5 beats 2.2
  // where 2 / 2 + 3 = 4 would beat 3 too.
  Case ordered = Greedy({2.0f, 3.0f});
  ordered.bias = {{0, 3.0f}};
  ordered.history = {{0, 1}};
  ordered.row.repetition_penalty = 2.0f;
  EXPECT_EQ(ordered.Token(), 1);
  ordered.logits[1] = 2.4f;
  EXPECT_EQ(ordered.Token(), 0);
}

TEST(Sampler, DrawsFromTheSoftmax) {
  const std::vector<double> p = {0.4, 0.05, 0.3, 0.05, 0.2};
  ExpectDistribution(Histogram(Draws(p), 50000), p);
}

TEST(Sampler, TemperatureSharpensAndFlattens) {
  Case drawn = Draws({0.6, 0.3, 0.1});
  drawn.row.temperature = 0.5f;
  ExpectDistribution(Histogram(drawn, 50000), {0.36 / 0.46, 0.09 / 0.46, 0.01 / 0.46});
  drawn.row.temperature = 2.0f;
  const double sum = std::sqrt(0.6) + std::sqrt(0.3) + std::sqrt(0.1);
  ExpectDistribution(Histogram(drawn, 50000),
                     {std::sqrt(0.6) / sum, std::sqrt(0.3) / sum, std::sqrt(0.1) / sum});
  drawn.row.temperature = std::numeric_limits<float>::denorm_min();
  EXPECT_THAT(Support(drawn), ElementsAre(0));
}

TEST(Sampler, MinPKeepsWhatReachesItsShareOfTheLargest) {
  Case drawn = Draws({0.2, 0.5, 0.09, 0.21});
  drawn.row.min_p = 0.41f;
  EXPECT_THAT(Support(drawn), ElementsAre(1, 3));
  drawn.row.min_p = 0.39f;
  ExpectDistribution(Histogram(drawn, 50000), {0.2 / 0.91, 0.5 / 0.91, 0, 0.21 / 0.91});
  drawn.row.min_p = 1.0f;
  EXPECT_THAT(Support(drawn), ElementsAre(1));
}

TEST(Sampler, TopKKeepsTheLargestAndTheLowerOfEqualOnes) {
  Case drawn = Draws({0.1, 0.2, 0.4, 0.2, 0.1});
  drawn.row.top_k = 2;
  ExpectDistribution(Histogram(drawn, 50000), {0, 0.2 / 0.6, 0.4 / 0.6, 0, 0});
  drawn.row.top_k = 1;
  EXPECT_THAT(Support(drawn), ElementsAre(2));
  for (const int32_t off : {0, -1, 5, 1000}) {
    drawn.row.top_k = off;
    EXPECT_THAT(Support(drawn), ElementsAre(0, 1, 2, 3, 4));
  }
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
  Case drawn = Draws({0.15, 0.3, 0.5, 0.05});
  drawn.row.top_p = 0.79f;
  EXPECT_THAT(Support(drawn), ElementsAre(1, 2));
  drawn.row.top_p = 0.81f;
  ExpectDistribution(Histogram(drawn, 50000), {0.15 / 0.95, 0.3 / 0.95, 0.5 / 0.95, 0});
  drawn.row.top_p = 1e-30f;
  EXPECT_THAT(Support(drawn), ElementsAre(2));
  drawn.row.top_p = 1.0f;
  EXPECT_THAT(Support(drawn), ElementsAre(0, 1, 2, 3));
  // Exactly half is reached by one of two equals.
  Case equals = Draws({0.5, 0.5});
  equals.row.top_p = 0.5f;
  EXPECT_THAT(Support(equals), ElementsAre(0));
}

TEST(Sampler, FiltersInTheOrderMinPTopKTopP) {
  // Of the two that top_k leaves, the first has 0.5 / 0.8 > 0.6; of all four it has 0.5 < 0.6.
  Case drawn = Draws({0.5, 0.3, 0.15, 0.05});
  drawn.row.top_k = 2;
  drawn.row.top_p = 0.6f;
  EXPECT_THAT(Support(drawn), ElementsAre(0));
  // Likewise of the two that min_p leaves.
  drawn.row.top_k = 0;
  drawn.row.min_p = 0.5f;
  EXPECT_THAT(Support(drawn), ElementsAre(0));
  drawn.row.min_p = 0.0f;
  EXPECT_THAT(Support(drawn), ElementsAre(0, 1));
  // Temperature first: flattened, the second reaches half of the first.
  drawn = Draws({0.8, 0.2});
  drawn.row.min_p = 0.4f;
  EXPECT_THAT(Support(drawn), ElementsAre(0));
  drawn.row.temperature = 2.0f;
  EXPECT_THAT(Support(drawn), ElementsAre(0, 1));
}

TEST(Sampler, NeverDrawsABannedToken) {
  Case drawn = Draws({0.7, 0.2, 0.1});
  drawn.banned = {0};
  ExpectDistribution(Histogram(drawn, 50000), {0, 2.0 / 3, 1.0 / 3});
  drawn.row.top_k = 3;
  EXPECT_THAT(Support(drawn), ElementsAre(1, 2));
}

TEST(Sampler, TheKeyAloneDecides) {
  Case drawn;
  drawn.logits.assign(1000, 0.0f);
  SampleScratch scratch;
  const auto token = [&](uint64_t seed, int32_t output, int32_t position) {
    drawn.row.seed = seed;
    drawn.row.output_index = output;
    drawn.row.position = position;
    return drawn.Token(scratch);
  };
  const int32_t first = token(1, 2, 3);
  EXPECT_NE(token(2, 2, 3), first);
  EXPECT_NE(token(1, 3, 3), first);
  EXPECT_NE(token(1, 2, 4), first);
  EXPECT_NE(token(1 + (uint64_t{1} << 40), 2, 3), first);
  EXPECT_EQ(token(1, 2, 3), first);
  SampleScratch other;
  EXPECT_EQ(drawn.Token(other), first);
}

// Every step in double precision with full sorts.
int32_t SampleNaively(const Case& drawn) {
  const SampleRow& row = drawn.row;
  std::vector<double> x(drawn.logits.begin(), drawn.logits.end());
  for (const auto& [token, bias] : drawn.bias) {
    x[token] += static_cast<double>(bias);
  }
  for (const TokenCount& seen : drawn.history) {
    double& logit = x[seen.token];
    const double repetition = static_cast<double>(row.repetition_penalty);
    logit = logit > 0 ? logit / repetition : logit * repetition;
    logit -= static_cast<double>(row.frequency_penalty) * seen.output_count;
    logit -= seen.output_count > 0 ? static_cast<double>(row.presence_penalty) : 0;
  }
  for (const int32_t token : drawn.banned) {
    x[token] = -std::numeric_limits<double>::infinity();
  }
  std::vector<int32_t> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&x](int32_t a, int32_t b) { return x[a] > x[b]; });
  if (row.temperature == 0) {
    return order[0];
  }
  const double max = x[order[0]];
  std::vector<double> p(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    p[i] = std::exp((x[i] - max) / static_cast<double>(row.temperature));
  }
  std::erase_if(order, [&](int32_t i) { return p[i] < static_cast<double>(row.min_p); });
  if (row.top_k > 0) {
    order.resize(std::min<size_t>(order.size(), row.top_k));
  }
  const auto mass = [&p](const std::vector<int32_t>& tokens) {
    double sum = 0;
    for (const int32_t i : tokens) {
      sum += p[i];
    }
    return sum;
  };
  const double wanted = mass(order) * static_cast<double>(row.top_p);
  std::vector<int32_t> kept;
  while (kept.empty() || (mass(kept) < wanted && kept.size() < order.size())) {
    kept.push_back(order[kept.size()]);
  }
  std::sort(kept.begin(), kept.end());
  double left = UniformDraw(row.seed, row.output_index, row.position) * mass(kept);
  for (const int32_t i : kept) {
    left -= p[i];
    if (left < 0) {
      return i;
    }
  }
  return kept.back();
}

TEST(Sampler, AgreesWithAPlainReferenceOnRandomRows) {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> uniform(0.0f, 1.0f);
  const auto chance = [&](float p) { return uniform(random) < p; };
  SampleScratch scratch;
  std::set<int32_t> seen;
  for (int round = 0; round < 4000; ++round) {
    Case drawn;
    drawn.logits.resize(1 + random() % (round % 10 == 0 ? 1500 : 60));
    std::normal_distribution<float> normal(0.0f, chance(0.5f) ? 3.0f : 0.3f);
    for (float& logit : drawn.logits) {
      logit = normal(random);
    }
    SampleRow& row = drawn.row;
    row.temperature = chance(0.1f) ? 0.0f : 0.1f + 2.0f * uniform(random);
    row.top_p = chance(0.3f) ? 1.0f : 0.01f + 0.98f * uniform(random);
    row.top_k =
        chance(0.5f) ? 0 : static_cast<int32_t>(1 + random() % (random() % 2 == 0 ? 10 : 400));
    row.min_p = chance(0.5f) ? 0.0f : 0.3f * uniform(random);
    row.seed = random();
    row.position = static_cast<int32_t>(random() % 1000);
    for (size_t token = 0; token < drawn.logits.size(); ++token) {
      if (chance(0.1f)) {
        drawn.bias.emplace_back(token, 4.0f * uniform(random) - 2.0f);
      }
      if (chance(0.2f)) {
        drawn.history.push_back({static_cast<int32_t>(token), static_cast<int32_t>(random() % 3)});
      }
      if (token > 0 && chance(0.05f)) {
        drawn.banned.push_back(static_cast<int32_t>(token));
      }
    }
    row.repetition_penalty = 0.5f + uniform(random);
    row.frequency_penalty = uniform(random) - 0.5f;
    row.presence_penalty = uniform(random) - 0.5f;
    const int32_t expected = SampleNaively(drawn);
    ASSERT_EQ(drawn.Token(scratch), expected) << "round " << round;
    seen.insert(expected);
  }
  EXPECT_GT(seen.size(), 60u);
}

TEST(Sampler, TopPOverAFlatVocabularyKeepsItsShare) {
  Case drawn;
  drawn.logits.assign(30000, 0.5f);
  drawn.row.top_p = 0.37f;
  SampleScratch scratch;
  int32_t largest = 0;
  for (int i = 0; i < 300; ++i) {
    drawn.row.position = i;
    largest = std::max(largest, drawn.Token(scratch));
  }
  EXPECT_LE(largest, 11100);
  EXPECT_GT(largest, 10900);
}

TEST(Sampler, LogprobsAreOfTheRawLogits) {
  Case drawn = Draws({0.1, 0.6, 0.25, 0.05});
  drawn.row.logprobs = 2;
  drawn.row.temperature = 0.3f;
  drawn.bias = {{0, 50.0f}};
  drawn.row.top_k = 1;
  SampleScratch scratch;
  const Sampled sampled = drawn.Run(scratch);
  ASSERT_EQ(sampled.token, 0);
  ASSERT_TRUE(sampled.logprobs.has_value());
  EXPECT_EQ(sampled.logprobs->token, 0);
  EXPECT_EQ(sampled.logprobs->rank, 3);
  EXPECT_NEAR(*sampled.logprobs->logprob, std::log(0.1), 1e-6);
  EXPECT_THAT(sampled.logprobs->top, ElementsAre(Pair(1, FloatNear(std::log(0.6f), 1e-6f)),
                                                 Pair(2, FloatNear(std::log(0.25f), 1e-6f))));
}

TEST(Sampler, LogprobsAreLeftOutUnlessAskedFor) {
  Case drawn = Greedy({1, 2});
  SampleScratch scratch;
  EXPECT_FALSE(drawn.Run(scratch).logprobs.has_value());
  drawn.row.logprobs = 0;
  const Sampled sampled = drawn.Run(scratch);
  ASSERT_TRUE(sampled.logprobs.has_value());
  EXPECT_TRUE(sampled.logprobs->top.empty());
}

TEST(Sampler, ScoresAKnownTokenWithoutDrawing) {
  Case scored = Draws({0.2, 0.5, 0.3});
  scored.row.target = 2;
  scored.row.logprobs = 3;
  SampleScratch scratch;
  const Sampled sampled = scored.Run(scratch);
  EXPECT_EQ(sampled.token, 2);
  EXPECT_EQ(sampled.logprobs->rank, 2);
  EXPECT_NEAR(*sampled.logprobs->logprob, std::log(0.3), 1e-6);
  ASSERT_EQ(sampled.logprobs->top.size(), 3u);
  EXPECT_EQ(sampled.logprobs->top[0].first, 1);
}

TEST(Sampler, TiesRankTheLowerTokenFirst) {
  Case scored = Greedy({1, 5, 5, 0, 5});
  scored.row.target = 2;
  scored.row.logprobs = 5;
  SampleScratch scratch;
  const Sampled sampled = scored.Run(scratch);
  EXPECT_EQ(sampled.logprobs->rank, 2);
  std::vector<int32_t> ids;
  for (const auto& [token, logprob] : sampled.logprobs->top) {
    ids.push_back(token);
  }
  EXPECT_THAT(ids, ElementsAre(1, 2, 4, 0, 3));
}

TEST(Sampler, TopLogprobsAgreeWithAFullSort) {
  std::mt19937 random(9);
  Case scored;
  scored.logits.resize(5000);
  for (float& logit : scored.logits) {
    logit = static_cast<float>(random() % 1000) / 100.0f;  // many ties
  }
  std::vector<int32_t> order(5000);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return scored.logits[a] > scored.logits[b]; });
  SampleScratch scratch;
  for (const int32_t top : {1, 7, 100, 2400, 4999, 5000}) {
    scored.row.logprobs = top;
    scored.row.target = order[top - 1];
    const Sampled sampled = scored.Run(scratch);
    EXPECT_EQ(sampled.logprobs->rank, top);
    ASSERT_EQ(sampled.logprobs->top.size(), static_cast<size_t>(top));
    for (int32_t i = 0; i < top; ++i) {
      ASSERT_EQ(sampled.logprobs->top[i].first, order[i]);
    }
    EXPECT_EQ(sampled.logprobs->top[top - 1].second, *sampled.logprobs->logprob);
  }
}

TEST(Sampler, SaysSoWhenLogitsAreNotFinite) {
  SampleScratch scratch;
  for (const float temperature : {0.0f, 0.7f}) {
    for (const float top_p : {1.0f, 0.9f}) {
      Case odd{.logits = {kNaN, 1.0f, -kInfinity, kNaN, 0.5f}};
      odd.row.temperature = temperature;
      odd.row.top_p = top_p;
      odd.row.logprobs = 5;
      for (int32_t position = 0; position < 50; ++position) {
        odd.row.position = position;
        const Sampled sampled = odd.Run(scratch);
        EXPECT_EQ(sampled.token, kNotFinite);
        for (const auto& [token, logprob] : sampled.logprobs->top) {
          EXPECT_TRUE(std::isfinite(logprob));
        }
      }
      odd.logits = {1.0f, kInfinity, kNaN};
      EXPECT_EQ(odd.Token(scratch), kNotFinite);
      odd.logits = {kNaN, kNaN};
      EXPECT_EQ(odd.Token(scratch), kNotFinite);
      odd.logits = {1.0f, 2.0f};
      odd.banned = {0, 1};
      EXPECT_EQ(odd.Token(scratch), 0);
    }
  }
}

TEST(Sampler, SurvivesPenaltiesAndBiasesAtTheEdgeOfFloats) {
  Case extreme{.logits = {5.0f, -5.0f, 1.0f}};
  extreme.row.repetition_penalty = std::numeric_limits<float>::denorm_min();
  extreme.history = {{0, 1000000}, {1, 0}};
  extreme.bias = {{2, -std::numeric_limits<float>::max()}};
  EXPECT_EQ(extreme.Token(), 0);
  extreme.row.temperature = 0.01f;
  EXPECT_EQ(extreme.Token(), 0);
}

}  // namespace
}  // namespace ballast
