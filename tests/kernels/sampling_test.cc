#include "kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/inner_loops.h"
#include "kernels/cpu/stream.h"
#include "kernels/sampling_arithmetic.h"
#include "tests/kernels/kernel_sets.h"
#include "tests/kernels/sample_batch.h"

namespace ballast {
namespace {

using ::testing::ElementsAre;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A row and the side arrays it indexes.
struct Case {
  std::vector<float> logits = {};
  SampleParameters row = {};
  std::vector<TokenBias> bias = {};
  std::vector<int32_t> banned = {};
  std::vector<TokenCount> history = {};

  int32_t Token(const Runner& cpu) const {
    SampleParameters ranged = row;
    ranged.bias = {0, static_cast<int32_t>(bias.size())};
    ranged.banned = {0, static_cast<int32_t>(banned.size())};
    ranged.history = {0, static_cast<int32_t>(history.size())};
    std::vector<float> copy = logits;
    const auto vocab = static_cast<int64_t>(copy.size());
    int32_t token = -7;
    cpu->sample(cpu.stream(), {copy.data(), DType::kF32, 1, vocab, vocab}, &ranged,
                {bias.data(), banned.data(), history.data()}, &token);
    return token;
  }

  int32_t Token() const {
    static const Runner cpu("auto");
    return Token(cpu);
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
  std::vector<int> counts(drawn.logits.size());
  for (int i = 0; i < draws; ++i) {
    drawn.row.position = i;
    ++counts[drawn.Token()];
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

std::vector<uint32_t> Philox(PhiloxWords counter, uint32_t key0, uint32_t key1) {
  const PhiloxWords words = Philox4x32(counter, key0, key1);
  return {std::begin(words.word), std::end(words.word)};
}

TEST(Philox, AgreesWithTheVectorsOfRandom123) {
  EXPECT_THAT(Philox({{0, 0, 0, 0}}, 0, 0),
              ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_THAT(Philox({{kOnes, kOnes, kOnes, kOnes}}, kOnes, kOnes),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(Philox({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(DrawBits, AreTheFirstTwoWordsLowFirst) {
  EXPECT_EQ(DrawBits(0, 0, 0), 0xe169c58d6627e8d5u);
  EXPECT_NE(DrawBits(1, 0, 0), DrawBits(uint64_t{1} << 32, 0, 0));
  EXPECT_NE(DrawBits(0, 1, 0), DrawBits(0, 0, 1));
}

TEST(DrawBits, AreUniformOverPositionsSeedsAndOutputs) {
  std::vector<int> by_position(64);
  std::vector<int> by_seed(64);
  std::vector<int> by_output(64);
  for (int32_t i = 0; i < 64000; ++i) {
    ++by_position[DrawBits(5, 0, i) >> 58];
    ++by_seed[DrawBits(static_cast<uint64_t>(i), 0, 9) >> 58];
    ++by_output[DrawBits(5, i, 9) >> 58];
  }
  const std::vector<double> uniform(64, 1.0 / 64);
  ExpectDistribution(by_position, uniform);
  ExpectDistribution(by_seed, uniform);
  ExpectDistribution(by_output, uniform);
}

TEST(SamplingArithmetic, MultipliesHigh) {
  constexpr uint64_t kAll = ~uint64_t{0};
  EXPECT_EQ(MultiplyHigh(kAll, kAll), kAll - 1);
  EXPECT_EQ(MultiplyHigh(uint64_t{1} << 63, 6), 3u);
  EXPECT_EQ(MultiplyHigh(kAll, 1), 0u);
  EXPECT_EQ(MultiplyHigh(0xffffffff00000001, 0x00000001ffffffff), 0x1fffffffd + uint64_t{0});
}

TEST(SamplingArithmetic, TheMassToReachIsRoundedUp) {
  EXPECT_EQ(MassToReach(0.5f, 10), 5u);
  EXPECT_EQ(MassToReach(0.5f, 11), 6u);
  EXPECT_EQ(MassToReach(std::nextafter(0.5f, 1.0f), 10), 6u);
  EXPECT_EQ(MassToReach(std::nextafter(1.0f, 0.0f), 10), 10u);
  EXPECT_EQ(MassToReach(1e-30f, 10), 1u);
  EXPECT_EQ(MassToReach(0.25f, uint64_t{1} << 62), uint64_t{1} << 60);
}

TEST(Sample, GreedyTakesTheLargestAndTheLowerOfEqualOnes) {
  EXPECT_EQ(Greedy({1, 3, 2}).Token(), 1);
  EXPECT_EQ(Greedy({1, 3, 3, 3}).Token(), 1);
  std::vector<float> many(1000, -1.0f);
  many[771] = many[772] = 0.0f;
  EXPECT_EQ(Greedy(many).Token(), 771);
}

TEST(Sample, BiasAndBansComeBeforeGreedy) {
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

TEST(Sample, RepetitionDividesPositiveAndMultipliesNegativeLogits) {
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

TEST(Sample, FrequencyAndPresenceCountTheOutputOnly) {
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

TEST(Sample, BiasComesBeforePenalties) {
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

TEST(Sample, DrawsFromTheSoftmax) {
  const std::vector<double> p = {0.4, 0.05, 0.3, 0.05, 0.2};
  ExpectDistribution(Histogram(Draws(p), 50000), p);
}

TEST(Sample, TemperatureSharpensAndFlattens) {
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

TEST(Sample, MinPKeepsWhatReachesItsShareOfTheLargest) {
  Case drawn = Draws({0.2, 0.5, 0.09, 0.21});
  drawn.row.min_p = 0.41f;
  EXPECT_THAT(Support(drawn), ElementsAre(1, 3));
  drawn.row.min_p = 0.39f;
  ExpectDistribution(Histogram(drawn, 50000), {0.2 / 0.91, 0.5 / 0.91, 0, 0.21 / 0.91});
  drawn.row.min_p = 1.0f;
  EXPECT_THAT(Support(drawn), ElementsAre(1));
}

TEST(Sample, TopKKeepsTheLargestAndTheLowerOfEqualOnes) {
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

TEST(Sample, TopPKeepsTheFewestThatReachIt) {
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

TEST(Sample, FiltersInTheOrderMinPTopKTopP) {
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

TEST(Sample, NeverDrawsABannedToken) {
  Case drawn = Draws({0.7, 0.2, 0.1});
  drawn.banned = {0};
  ExpectDistribution(Histogram(drawn, 50000), {0, 2.0 / 3, 1.0 / 3});
  drawn.row.top_k = 3;
  EXPECT_THAT(Support(drawn), ElementsAre(1, 2));
}

TEST(Sample, TheKeyAloneDecides) {
  Case drawn;
  drawn.logits.assign(1000, 0.0f);
  const auto token = [&](uint64_t seed, int32_t output, int32_t position) {
    drawn.row.seed = seed;
    drawn.row.output_index = output;
    drawn.row.position = position;
    return drawn.Token();
  };
  const int32_t first = token(1, 2, 3);
  EXPECT_NE(token(2, 2, 3), first);
  EXPECT_NE(token(1, 3, 3), first);
  EXPECT_NE(token(1, 2, 4), first);
  EXPECT_NE(token(1 + (uint64_t{1} << 40), 2, 3), first);
  EXPECT_EQ(token(1, 2, 3), first);
}

// Every step in double precision with full sorts.
int32_t SampleNaively(const Case& drawn) {
  const SampleParameters& row = drawn.row;
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
  double left =
      std::ldexp(static_cast<double>(DrawBits(row.seed, row.output_index, row.position)), -64) *
      mass(kept);
  for (const int32_t i : kept) {
    left -= p[i];
    if (left < 0) {
      return i;
    }
  }
  return kept.back();
}

TEST(Sample, AgreesWithAPlainReferenceOnRandomRows) {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> uniform(0.0f, 1.0f);
  const auto chance = [&](float p) { return uniform(random) < p; };
  std::set<int32_t> seen;
  for (int round = 0; round < 4000; ++round) {
    Case drawn;
    drawn.logits.resize(1 + random() % (round % 10 == 0 ? 1500 : 60));
    std::normal_distribution<float> normal(0.0f, chance(0.5f) ? 3.0f : 0.3f);
    for (float& logit : drawn.logits) {
      logit = normal(random);
    }
    SampleParameters& row = drawn.row;
    row.temperature = chance(0.1f) ? 0.0f : 0.1f + 2.0f * uniform(random);
    row.top_p = chance(0.3f) ? 1.0f : 0.01f + 0.98f * uniform(random);
    row.top_k =
        chance(0.5f) ? 0 : static_cast<int32_t>(1 + random() % (random() % 2 == 0 ? 10 : 400));
    row.min_p = chance(0.5f) ? 0.0f : 0.3f * uniform(random);
    row.seed = random();
    row.position = static_cast<int32_t>(random() % 1000);
    for (size_t token = 0; token < drawn.logits.size(); ++token) {
      if (chance(0.1f)) {
        drawn.bias.push_back({static_cast<int32_t>(token), 4.0f * uniform(random) - 2.0f});
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
    ASSERT_EQ(drawn.Token(), expected) << "round " << round;
    seen.insert(expected);
  }
  EXPECT_GT(seen.size(), 60u);
}

TEST(Sample, TopPOverAFlatVocabularyKeepsItsShare) {
  Case drawn;
  drawn.logits.assign(30000, 0.5f);
  drawn.row.top_p = 0.37f;
  int32_t largest = 0;
  for (int i = 0; i < 300; ++i) {
    drawn.row.position = i;
    largest = std::max(largest, drawn.Token());
  }
  EXPECT_LE(largest, 11100);
  EXPECT_GT(largest, 10900);
}

TEST(Sample, SaysSoWhenLogitsAreNotFinite) {
  for (const float temperature : {0.0f, 0.7f}) {
    for (const int32_t target : {-1, 1}) {
      Case odd;
      odd.row.temperature = temperature;
      odd.row.target = target;
      for (size_t place = 0; place < 40; ++place) {
        for (const float value : {kNaN, -kNaN, kInfinity, -kInfinity}) {
          odd.logits.assign(40, 1.0f);
          odd.logits[place] = value;
          EXPECT_EQ(odd.Token(), kNotFinite) << place;
        }
      }
      // Bias and bans come later and mend nothing.
      odd.bias = {{39, 1.0f}};
      odd.banned = {39};
      EXPECT_EQ(odd.Token(), kNotFinite);
    }
  }
}

TEST(Sample, AKnownTokenIsTheAnswer) {
  Case known = Draws({0.2, 0.5, 0.3});
  known.row.target = 2;
  EXPECT_EQ(known.Token(), 2);
  known.row.temperature = 0;
  EXPECT_EQ(known.Token(), 2);
}

TEST(Sample, AllBannedIsTokenZero) {
  Case banned{.logits = {1.0f, 2.0f}, .banned = {0, 1}};
  for (const float temperature : {0.0f, 0.7f}) {
    for (const int32_t top_k : {0, 1}) {
      banned.row.temperature = temperature;
      banned.row.top_k = top_k;
      banned.row.top_p = 0.5f;
      EXPECT_EQ(banned.Token(), 0);
    }
  }
}

TEST(Sample, ZerosOfBothSignsTie) {
  EXPECT_EQ(Greedy({-0.0f, 0.0f}).Token(), 0);
  EXPECT_EQ(Greedy({0.0f, -0.0f}).Token(), 0);
  Case drawn{.logits = {-0.0f, 0.0f, -0.0f, 0.0f}};
  drawn.row.top_k = 2;
  EXPECT_THAT(Support(drawn), ElementsAre(0, 1));
  drawn.row.top_k = 0;
  drawn.row.top_p = 0.75f;
  EXPECT_THAT(Support(drawn), ElementsAre(0, 1, 2));
}

TEST(Sample, SurvivesPenaltiesAndBiasesAtTheEdgeOfFloats) {
  Case extreme{.logits = {5.0f, -5.0f, 1.0f}};
  extreme.row.repetition_penalty = std::numeric_limits<float>::denorm_min();
  extreme.history = {{0, 1000000}, {1, 0}};
  extreme.bias = {{2, -std::numeric_limits<float>::max()}};
  EXPECT_EQ(extreme.Token(), 0);
  extreme.row.temperature = 0.01f;
  EXPECT_EQ(extreme.Token(), 0);
}

class SampleSets : public KernelSets {};
INSTANTIATE_TEST_SUITE_P(All, SampleSets, testing::ValuesIn(kKernelSets), NameOfSet);

TEST_P(SampleSets, DrawTheReferencesTokens) {
  const Runner reference("reference");
  const Runner set(GetParam());
  for (const int64_t vocab : {1, 7, 33, 1000, 5003}) {
    const SampleBatch batch = SampleBatch::Random(100, vocab, static_cast<uint32_t>(vocab));
    EXPECT_EQ(batch.Tokens(set), batch.Tokens(reference)) << "vocab " << vocab;
  }
}

TEST_P(SampleSets, WeightsAreRoundedToTheNearestInteger) {
  const Runner set(GetParam());
  const InnerLoops& loops = StreamOf(set.stream()).loops;
  std::vector<float> logits;
  for (float x = 0.0f; x > -29.0f; x -= 0.00037f) logits.push_back(x);
  logits.insert(logits.end(), {-50.0f, -1e30f, -kInfinity});
  const auto n = static_cast<int64_t>(logits.size());
  std::vector<float> weights(logits.size());
  std::vector<float> reference(logits.size());
  loops.sample_weights(logits.data(), n, 0.0f, 0.75f, weights.data());
  kReferenceLoops.sample_weights(logits.data(), n, 0.0f, 0.75f, reference.data());
  EXPECT_EQ(weights, reference);
  EXPECT_EQ(weights[0], kWeightOne);
  for (size_t i = 0; i < logits.size(); ++i) {
    const double exact = std::exp(static_cast<double>(logits[i] / 0.75f)) * 0x1p40;
    EXPECT_EQ(weights[i], std::nearbyint(weights[i]));
    // The exponential is within two units in the last place.
    EXPECT_NEAR(weights[i], exact, 0.5 + exact * 0x1p-22) << logits[i];
  }
  loops.sample_weights(logits.data() + 1, 3, 0.0f, std::numeric_limits<float>::denorm_min(),
                       weights.data());
  EXPECT_EQ(weights[0] + weights[1] + weights[2], 0.0f);
}

TEST_P(SampleSets, RowsAreDrawnAlikeInAnyCompany) {
  const Runner set(GetParam(), 3);
  constexpr int64_t kRows = 19;
  constexpr int64_t kCols = 1000;
  Matrix logits = Matrix::Random(DType::kF32, kRows, kCols, 23, 5, 3.0f);
  std::vector<SampleParameters> rows(kRows);
  for (int32_t i = 0; i < kRows; ++i) rows[static_cast<size_t>(i)].position = i;
  std::vector<int32_t> together(kRows);
  Matrix copy = logits;
  set->sample(set.stream(), copy.View(), rows.data(), {}, together.data());
  for (int64_t i = 0; i < kRows; ++i) {
    copy = logits;
    int32_t alone = -7;
    set->sample(set.stream(), copy.Rows(i, 1), &rows[static_cast<size_t>(i)], {}, &alone);
    EXPECT_EQ(alone, together[static_cast<size_t>(i)]);
  }
  EXPECT_GT(std::set(together.begin(), together.end()).size(), 10u);
}

}  // namespace
}  // namespace ballast
