#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "engine/model/config.h"
#include "tests/engine/checkpoint/checkpoint_files.h"

namespace ballast {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// Expected values come from the published formulas in double precision; a float32 evaluation stays
// within a few units in the last place, 2^-24 each.
constexpr double kRelative = 8.0 / (1 << 24);

void ExpectFrequencies(const RopeConfig& rope,
                       const std::vector<std::pair<size_t, double>>& expected) {
  const RopeFrequencies frequencies = ComputeRopeFrequencies(rope);
  ASSERT_EQ(frequencies.inverse.size(), static_cast<size_t>(rope.dim) / 2);
  for (const auto& [index, value] : expected) {
    EXPECT_NEAR(frequencies.inverse[index], value, value * kRelative) << index;
  }
}

RopeConfig Yarn(float theta, double factor, double beta_fast, double beta_slow) {
  RopeConfig rope;
  rope.dim = 64;
  rope.theta = theta;
  rope.scaling = RopeScaling::kYarn;
  rope.factor = factor;
  rope.original_max_position = 4096;
  rope.beta_fast = beta_fast;
  rope.beta_slow = beta_slow;
  return rope;
}

TEST(RopeConfig, UnscaledFrequenciesArePowersOfTheta) {
  RopeConfig rope;
  rope.dim = 64;
  rope.theta = 1e6f;
  ExpectFrequencies(rope, {{0, 1.0}, {1, 0.649381632}, {31, 1.53992653e-06}});
  EXPECT_EQ(ComputeRopeFrequencies(rope).magnitude, 1.0f);
}

TEST(RopeConfig, LinearScalingDividesByTheFactor) {
  RopeConfig rope;
  rope.dim = 64;
  rope.theta = 1e6f;
  rope.scaling = RopeScaling::kLinear;
  rope.factor = 4.0;
  ExpectFrequencies(rope, {{0, 0.25}, {1, 0.649381632 / 4}, {31, 1.53992653e-06 / 4}});
}

TEST(RopeConfig, YarnOfDeepseekV3) {
  RopeConfig rope = Yarn(1e4f, 40.0, 32.0, 1.0);
  rope.mscale = 1.0;
  rope.mscale_all_dim = 1.0;
  ExpectFrequencies(rope, {{0, 1.0},
                           {9, 0.0749894209},
                           {10, 0.0562341325},
                           {11, 0.0390069266},
                           {16, 0.0055},
                           {22, 0.000177827941},
                           {23, 3.33380358e-05},
                           {31, 3.33380358e-06}});
  EXPECT_FLOAT_EQ(ComputeRopeFrequencies(rope).magnitude, 1.0f);
}

TEST(RopeConfig, YarnWithoutTruncation) {
  RopeConfig rope = Yarn(150'000.0f, 32.0, 32.0, 1.0);
  rope.truncate = false;
  ExpectFrequencies(rope, {{8, 0.0508132748},
                           {9, 0.0317056962},
                           {12, 0.00679495949},
                           {17, 0.000129318701},
                           {18, 3.83088124e-05},
                           {31, 3.02351143e-07}});
  EXPECT_NEAR(ComputeRopeFrequencies(rope).magnitude, 1.3466, 5e-5);
  rope.attention_factor = 1.25;
  EXPECT_FLOAT_EQ(ComputeRopeFrequencies(rope).magnitude, 1.25f);
}

TEST(RopeConfig, YarnWithEqualBetas) {
  ExpectFrequencies(Yarn(5e4f, 32.0, 1.0, 1.0),
                    {{18, 0.00227420376}, {19, 0.00162175991}, {20, 3.61404677e-05}});
}

TEST(RopeConfig, Llama3) {
  RopeConfig rope;
  rope.dim = 128;
  rope.theta = 5e5f;
  rope.scaling = RopeScaling::kLlama3;
  rope.factor = 8.0;
  rope.original_max_position = 8192;
  ExpectFrequencies(rope, {{0, 1.0},
                           {27, 0.00394227603},
                           {28, 0.00321144599},
                           {30, 0.00137189357},
                           {35, 9.55621235e-05},
                           {36, 7.78465527e-05},
                           {63, 3.06892599e-07}});
}

ModelConfig Read(const json& config) {
  const auto read = ParseModelConfig(config.dump());
  EXPECT_TRUE(read.ok()) << read.status();
  return read.ok() ? *read : ModelConfig{};
}

// m^2 of the published models.
TEST(RopeConfig, LatentAttentionScalesScoresByTheMagnitudeSquared) {
  json config = GoldenConfig("deepseek_v3-qlora-yarn");
  const double plain = 1.0 / std::sqrt(24.0);
  config["rope_parameters"]["factor"] = 40;
  EXPECT_NEAR(Read(config).attention_scale / plain, 1.8739, 5e-5);
  config["rope_parameters"]["mscale_all_dim"] = 0.707;
  EXPECT_NEAR(Read(config).attention_scale / plain, 1.5896, 5e-5);
  config["rope_parameters"]["factor"] = 32;
  config["rope_parameters"]["mscale_all_dim"] = 1.0;
  EXPECT_NEAR(Read(config).attention_scale / plain, 1.8133, 5e-5);
}

TEST(RopeConfig, GroupedAttentionKeepsItsScale) {
  json config = GoldenConfig("qwen3_moe-norm");
  config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}, {"mscale_all_dim", 1.0}};
  const ModelConfig read = Read(config);
  EXPECT_FLOAT_EQ(read.attention_scale, static_cast<float>(1.0 / std::sqrt(32.0)));
  // Without a length of its own the context counts.
  EXPECT_EQ(read.rope.original_max_position, 256);
  EXPECT_FLOAT_EQ(ComputeRopeFrequencies(read.rope).magnitude,
                  static_cast<float>(0.1 * std::log(4.0) + 1.0));
}

TEST(RopeConfig, OldKeysWinOverNewOnes) {
  json config = GoldenConfig("mixtral");
  config["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}, {"rope_theta", 5000.0}};
  EXPECT_EQ(Read(config).rope.scaling, RopeScaling::kLinear);
  EXPECT_EQ(Read(config).rope.factor, 2.0);
  EXPECT_FLOAT_EQ(Read(config).rope.theta, 5000.0f);
}

TEST(RopeConfig, YarnWithoutAFactorStretchesToTheContext) {
  json config = GoldenConfig("mixtral");
  config["rope_parameters"] = {{"rope_type", "yarn"}, {"original_max_position_embeddings", 64}};
  EXPECT_EQ(Read(config).rope.factor, 4.0);
}

TEST(RopeConfig, AbsurdValuesAreRefusedByFieldName) {
  const auto error = [](const json& rope) {
    json config = GoldenConfig("mixtral");
    config["rope_parameters"] = rope;
    const auto read = ParseModelConfig(config.dump());
    return read.ok() ? "accepted" : std::string(read.status().message());
  };
  EXPECT_THAT(error({{"rope_theta", 0}}), HasSubstr("rope_parameters.rope_theta is 0"));
  EXPECT_THAT(error({{"rope_theta", "x"}}), HasSubstr("rope_parameters.rope_theta is \"x\""));
  EXPECT_THAT(error({{"rope_type", "linear"}}), HasSubstr("rope_parameters.factor is missing"));
  EXPECT_THAT(error({{"rope_type", "linear"}, {"factor", 0}}), HasSubstr("factor is 0"));
  EXPECT_THAT(error({{"rope_type", "yarn"}, {"factor", 1e18}}), HasSubstr("factor is 1e+18"));
  EXPECT_THAT(error({{"rope_type", "yarn"}, {"factor", 2}, {"beta_fast", -1}}),
              HasSubstr("rope_parameters.beta_fast is -1"));
  EXPECT_THAT(
      error({{"rope_type", "yarn"}, {"factor", 2}, {"original_max_position_embeddings", 0}}),
      HasSubstr("original_max_position_embeddings is 0"));
  EXPECT_THAT(error({{"rope_type", "llama3"}, {"factor", 8}}),
              HasSubstr("low_freq_factor is missing"));
  EXPECT_THAT(error({{"rope_type", "llama3"},
                     {"factor", 8},
                     {"low_freq_factor", 4},
                     {"high_freq_factor", 4}}),
              HasSubstr("high_freq_factor is 4, expected more than low_freq_factor 4"));
  EXPECT_THAT(error({{"rope_type", 3}}), HasSubstr("rope_type is 3"));
}

}  // namespace
}  // namespace ballast
