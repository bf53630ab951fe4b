#include "engine/model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/engine/checkpoint/checkpoint_files.h"

namespace ballast {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

ModelConfig Read(const json& config) {
  const auto read = ParseModelConfig(config.dump());
  EXPECT_TRUE(read.ok()) << read.status();
  return read.ok() ? *read : ModelConfig{};
}

ModelConfig ReadWithout(json config, const char* key) {
  EXPECT_EQ(config.erase(key), 1u) << key;
  return Read(config);
}

std::string ErrorOf(const json& config) {
  const auto read = ParseModelConfig(config.dump());
  if (read.ok()) return "accepted";
  EXPECT_TRUE(absl::IsInvalidArgument(read.status()));
  return std::string(read.status().message());
}

std::string ErrorWith(const char* golden, const char* key, const json& value) {
  json config = GoldenConfig(golden);
  config[key] = value;
  return ErrorOf(config);
}

std::vector<std::string> UnsupportedWith(const char* golden, const char* key, const json& value) {
  json config = GoldenConfig(golden);
  config[key] = value;
  return Read(config).unsupported;
}

TEST(Config, ReadsDeepseekV3) {
  const ModelConfig config = Read(GoldenConfig("deepseek_v3-groups"));
  EXPECT_EQ(config.model_type, "deepseek_v3");
  EXPECT_EQ(config.published_type, DType::kBF16);
  EXPECT_EQ(config.layers, 3);
  EXPECT_EQ(config.attention, AttentionKind::kLatent);
  EXPECT_EQ(config.heads, 4);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_EQ(config.head_dim, 24);
  EXPECT_EQ(config.q_lora_rank, 0);
  EXPECT_EQ(config.kv_lora_rank, 32);
  EXPECT_EQ(config.qk_nope_head_dim, 16);
  EXPECT_EQ(config.qk_rope_head_dim, 8);
  EXPECT_EQ(config.v_head_dim, 16);
  EXPECT_EQ(config.rope.dim, 8);
  EXPECT_TRUE(config.rope.interleaved);
  EXPECT_EQ(config.rope.scaling, RopeScaling::kNone);
  EXPECT_FLOAT_EQ(config.attention_scale, 1.0f / std::sqrt(24.0f));
  EXPECT_EQ(config.experts, 16);
  EXPECT_EQ(config.experts_per_token, 3);
  EXPECT_EQ(config.expert_intermediate, 32);
  EXPECT_EQ(config.shared_intermediate, 32);
  EXPECT_EQ(config.dense_intermediate, 96);
  EXPECT_THAT(config.is_moe, ElementsAre(false, true, true));
  EXPECT_THAT(MoeLayers(config), ElementsAre(1, 2));
  EXPECT_EQ(config.router.score, RouterScore::kSigmoid);
  EXPECT_EQ(config.router.experts, 16);
  EXPECT_EQ(config.router.k, 3);
  EXPECT_EQ(config.router.groups, 4);
  EXPECT_EQ(config.router.topk_group, 2);
  EXPECT_TRUE(config.router.normalize);
  EXPECT_FLOAT_EQ(config.router.normalize_epsilon, 1e-20f);
  EXPECT_FLOAT_EQ(config.router.scale, 2.5f);
  EXPECT_TRUE(config.router_bias);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2));
  EXPECT_EQ(config.bos_token_id, 1);
  EXPECT_THAT(config.unsupported, IsEmpty());
}

void ExpectYarn(const ModelConfig& config) {
  EXPECT_EQ(config.q_lora_rank, 24);
  EXPECT_FLOAT_EQ(config.rms_norm_eps, 0.01f);
  EXPECT_FLOAT_EQ(config.latent_norm_eps, 1e-6f);
  EXPECT_EQ(config.rope.scaling, RopeScaling::kYarn);
  EXPECT_FLOAT_EQ(config.rope.theta, 10000.0f);
  EXPECT_EQ(config.rope.factor, 4.0);
  EXPECT_EQ(config.rope.original_max_position, 64);
  EXPECT_EQ(config.rope.mscale, 1.0);
  EXPECT_EQ(config.rope.mscale_all_dim, 1.0);
  const double m = 0.1 * std::log(4.0) + 1.0;
  EXPECT_FLOAT_EQ(config.attention_scale, static_cast<float>(m * m / std::sqrt(24.0)));
}

TEST(Config, OldAndNewKeysMeanTheSame) {
  ExpectYarn(Read(GoldenConfig("deepseek_v3-qlora-yarn")));
  ExpectYarn(Read(GoldenConfig("deepseek_v3-qlora-yarn-oldkeys")));
}

TEST(Config, ReadsQwen3Moe) {
  const ModelConfig config = Read(GoldenConfig("qwen3_moe-mixed"));
  EXPECT_EQ(config.attention, AttentionKind::kGrouped);
  EXPECT_EQ(config.kv_heads, 1);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.v_head_dim, 16);
  EXPECT_FLOAT_EQ(config.attention_scale, 0.25f);
  EXPECT_EQ(config.qk_norm, QkNorm::kPerHead);
  EXPECT_THAT(config.is_moe, ElementsAre(false, true, false, false));
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_FALSE(config.router.normalize);
  EXPECT_EQ(config.router.score, RouterScore::kSoftmax);
  EXPECT_EQ(config.router.groups, 1);
  EXPECT_FALSE(config.router_bias);
  EXPECT_EQ(config.sliding_window, 0);
  EXPECT_FALSE(config.rope.interleaved);
  EXPECT_TRUE(Read(GoldenConfig("qwen3_moe-norm")).router.normalize);
}

TEST(Config, ReadsOlmoe) {
  const ModelConfig config = Read(GoldenConfig("olmoe-clip"));
  EXPECT_EQ(config.qk_norm, QkNorm::kWhole);
  EXPECT_FLOAT_EQ(config.clip_qkv, 0.5f);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.kv_heads, 2);
  EXPECT_EQ(config.expert_intermediate, 32);
  EXPECT_FALSE(config.router.normalize);
  EXPECT_FLOAT_EQ(Read(GoldenConfig("olmoe")).clip_qkv, 0.0f);
}

TEST(Config, ReadsMixtral) {
  json config = GoldenConfig("mixtral");
  EXPECT_TRUE(Read(config).router.normalize);
  EXPECT_EQ(Read(config).qk_norm, QkNorm::kNone);
  EXPECT_EQ(Read(config).expert_intermediate, 80);
  EXPECT_EQ(Read(config).sliding_window, 0);
  config["sliding_window"] = 8;
  EXPECT_EQ(Read(config).sliding_window, 8);
}

TEST(Config, AbsentKeysMeanWhatTransformersAssumes) {
  const json deepseek = GoldenConfig("deepseek_v3-groups");
  const json qwen = GoldenConfig("qwen3_moe-norm");
  const json mixtral = GoldenConfig("mixtral");
  EXPECT_TRUE(ReadWithout(deepseek, "norm_topk_prob").router.normalize);
  EXPECT_TRUE(ReadWithout(deepseek, "rope_interleave").rope.interleaved);
  EXPECT_EQ(ReadWithout(deepseek, "q_lora_rank").q_lora_rank, 0);
  EXPECT_FALSE(ReadWithout(qwen, "norm_topk_prob").router.normalize);
  EXPECT_EQ(ReadWithout(qwen, "head_dim").head_dim, 16);
  EXPECT_FLOAT_EQ(ReadWithout(mixtral, "rope_parameters").rope.theta, 1e6f);
  EXPECT_FLOAT_EQ(ReadWithout(qwen, "rope_parameters").rope.theta, 1e4f);
  EXPECT_FLOAT_EQ(ReadWithout(mixtral, "rms_norm_eps").rms_norm_eps, 1e-5f);
  EXPECT_FLOAT_EQ(ReadWithout(qwen, "rms_norm_eps").rms_norm_eps, 1e-6f);
  EXPECT_EQ(ReadWithout(mixtral, "max_position_embeddings").max_context, 131072);
  EXPECT_FALSE(ReadWithout(qwen, "tie_word_embeddings").tied_embeddings);
  EXPECT_THAT(ReadWithout(qwen, "eos_token_id").eos_token_ids, IsEmpty());
  EXPECT_EQ(ReadWithout(qwen, "bos_token_id").bos_token_id, -1);
  EXPECT_EQ(ReadWithout(GoldenConfig("olmoe"), "num_key_value_heads").kv_heads, 4);
  EXPECT_EQ(ReadWithout(qwen, "decoder_sparse_step").is_moe, std::vector<bool>(3, true));
}

TEST(Config, ExpertCountsGoByManyNames) {
  json config = GoldenConfig("qwen3_moe-norm");
  config.erase("num_local_experts");
  EXPECT_THAT(ErrorOf(config), HasSubstr("num_experts is missing"));
  config["num_experts"] = 8;
  EXPECT_EQ(Read(config).experts, 8);
  config["n_routed_experts"] = 8;
  EXPECT_EQ(Read(config).experts, 8);
  config["num_local_experts"] = 16;
  EXPECT_THAT(ErrorOf(config), HasSubstr("num_local_experts is 16, expected 8 as in num_experts"));
}

TEST(Config, MoeLayersFollowFrequencyAndList) {
  json config = GoldenConfig("deepseek_v3-groups");
  config["moe_layer_freq"] = 2;
  EXPECT_THAT(Read(config).is_moe, ElementsAre(false, false, true));
  config["moe_layer_freq"] = {1, 1, 0};
  EXPECT_THAT(Read(config).is_moe, ElementsAre(false, true, false));
  config["moe_layer_freq"] = {1, 1};
  EXPECT_THAT(ErrorOf(config), HasSubstr("moe_layer_freq has 2 entries"));
  config["moe_layer_freq"] = 0;
  EXPECT_THAT(ErrorOf(config), HasSubstr("moe_layer_freq is 0"));
  config["moe_layer_freq"] = 1;
  config["mlp_layer_types"] = {"sparse", "dense", "sparse"};
  EXPECT_THAT(Read(config).is_moe, ElementsAre(true, false, true));
  config["mlp_layer_types"] = {"sparse", "dense"};
  EXPECT_THAT(ErrorOf(config), HasSubstr("mlp_layer_types has 2 entries"));
  config["mlp_layer_types"] = {"sparse", "dense", "soup"};
  EXPECT_THAT(ErrorOf(config), HasSubstr("mlp_layer_types[2] is \"soup\""));
}

TEST(Config, SlidingWindowsCountWhereTheFamilyUsesThem) {
  json config = GoldenConfig("qwen3_moe-norm");
  config["sliding_window"] = 8;
  EXPECT_EQ(Read(config).sliding_window, 0);
  config["use_sliding_window"] = true;
  EXPECT_EQ(Read(config).sliding_window, 8);
}

TEST(Config, UnknownFamiliesAreRefusedByName) {
  for (const char* name : {"kimi_k2", "glm4_moe_lite", "gpt_oss", "deepseek_v4", "", "Mixtral"}) {
    EXPECT_EQ(ErrorWith("mixtral", "model_type", name),
              std::string("config.json: model_type is \"") + name +
                  "\", expected one of deepseek_v3, mixtral, olmoe, qwen3_moe");
  }
  EXPECT_THAT(ErrorOf(json::object()), HasSubstr("model_type is missing, expected one of"));
  EXPECT_THAT(ErrorWith("mixtral", "model_type", 3), HasSubstr("model_type is 3"));
}

TEST(Config, WhatChangesTheArithmeticIsListed) {
  const auto mixtral = [](const char* key, const json& value) {
    return UnsupportedWith("mixtral", key, value);
  };
  EXPECT_THAT(mixtral("hidden_act", "gelu"), ElementsAre("hidden_act \"gelu\", expected silu"));
  EXPECT_THAT(mixtral("attention_bias", true), ElementsAre("attention_bias true"));
  EXPECT_THAT(mixtral("dtype", "float8_e4m3fn"), ElementsAre(HasSubstr("dtype \"float8_e4m3fn\"")));
  EXPECT_THAT(mixtral("partial_rotary_factor", 0.5), ElementsAre(HasSubstr("partial_rotary")));
  EXPECT_THAT(mixtral("layer_types", {"full_attention", "sliding_attention", "full_attention"}),
              ElementsAre("layer_types with \"sliding_attention\""));
  EXPECT_THAT(mixtral("rope_parameters", {{"rope_type", "dynamic"}, {"factor", 2.0}}),
              ElementsAre(HasSubstr("rope_type \"dynamic\"")));
  EXPECT_THAT(UnsupportedWith("deepseek_v3-groups", "scoring_func", "softmax"),
              ElementsAre("scoring_func \"softmax\""));
  EXPECT_THAT(UnsupportedWith("deepseek_v3-groups", "topk_method", "greedy"),
              ElementsAre("topk_method \"greedy\""));
  EXPECT_THAT(UnsupportedWith("deepseek_v3-groups", "num_key_value_heads", 2),
              ElementsAre(HasSubstr("num_key_value_heads")));
  EXPECT_THAT(mixtral("quantization_config", nullptr), IsEmpty());
}

struct Absurd {
  const char* golden;
  const char* key;
  json value;
};

TEST(Config, AbsurdValuesAreRefusedByFieldName) {
  const std::vector<Absurd> cases = {
      {"mixtral", "num_attention_heads", 0},
      {"mixtral", "num_attention_heads", -4},
      {"mixtral", "num_attention_heads", 1e18},
      {"mixtral", "num_attention_heads", 1'000'000'000'000'000'000},
      {"mixtral", "num_attention_heads", "4"},
      {"mixtral", "num_attention_heads", 4.0},
      {"mixtral", "num_attention_heads", nullptr},
      {"mixtral", "num_attention_heads", json::array({4})},
      {"mixtral", "num_attention_heads", true},
      {"mixtral", "num_key_value_heads", 0},
      {"mixtral", "num_key_value_heads", 3},
      {"mixtral", "num_hidden_layers", 0},
      {"mixtral", "num_hidden_layers", 10'001},
      {"mixtral", "hidden_size", 0},
      {"mixtral", "hidden_size", 1 << 30},
      {"mixtral", "intermediate_size", 0},
      {"mixtral", "vocab_size", 0},
      {"mixtral", "vocab_size", 1LL << 40},
      {"mixtral", "max_position_embeddings", 0},
      {"mixtral", "max_position_embeddings", -1},
      {"mixtral", "rms_norm_eps", -1e-6},
      {"mixtral", "rms_norm_eps", "small"},
      {"mixtral", "num_local_experts", 0},
      {"mixtral", "num_local_experts", 1'000'000},
      {"mixtral", "num_experts_per_tok", 0},
      {"mixtral", "num_experts_per_tok", 9},
      {"mixtral", "sliding_window", -1},
      {"mixtral", "sliding_window", 0},
      {"mixtral", "head_dim", 0},
      {"mixtral", "head_dim", 1'000'000},
      {"mixtral", "tie_word_embeddings", 1},
      {"mixtral", "eos_token_id", "</s>"},
      {"mixtral", "hidden_act", 7},
      {"mixtral", "dtype", 16},
      {"mixtral", "rope_parameters", 7},
      {"mixtral", "quantization_config", "fp8"},
      {"olmoe", "clip_qkv", -1},
      {"qwen3_moe-norm", "decoder_sparse_step", 0},
      {"qwen3_moe-norm", "mlp_only_layers", json::array({"0"})},
      {"qwen3_moe-norm", "moe_intermediate_size", nullptr},
      {"qwen3_moe-mixed", "intermediate_size", nullptr},
      {"deepseek_v3-groups", "n_group", 3},
      {"deepseek_v3-groups", "n_group", 0},
      {"deepseek_v3-groups", "n_group", 16},
      {"deepseek_v3-groups", "topk_group", 5},
      {"deepseek_v3-groups", "topk_group", 0},
      {"deepseek_v3-groups", "kv_lora_rank", 0},
      {"deepseek_v3-groups", "q_lora_rank", -1},
      {"deepseek_v3-groups", "qk_nope_head_dim", 0},
      {"deepseek_v3-groups", "v_head_dim", 0},
      {"deepseek_v3-groups", "n_shared_experts", -1},
      {"deepseek_v3-groups", "first_k_dense_replace", -1},
      {"deepseek_v3-groups", "routed_scaling_factor", -2.5},
  };
  for (const Absurd& absurd : cases) {
    const std::string error = ErrorWith(absurd.golden, absurd.key, absurd.value);
    EXPECT_THAT(error, HasSubstr("config.json: ")) << absurd.key << " " << absurd.value;
    EXPECT_THAT(error, HasSubstr(absurd.key)) << absurd.value;
  }
}

TEST(Config, MessagesSayFoundAndExpected) {
  EXPECT_EQ(ErrorWith("mixtral", "num_attention_heads", 0),
            "config.json: num_attention_heads is 0, expected an integer from 1 to 4096");
  EXPECT_EQ(ErrorWith("mixtral", "num_experts_per_tok", 9),
            "config.json: num_experts_per_tok is 9, more than the 8 experts");
  EXPECT_EQ(ErrorWith("deepseek_v3-groups", "n_group", 3),
            "config.json: n_group is 3, expected a divisor of the 16 experts");
  EXPECT_EQ(ErrorWith("mixtral", "hidden_size", "big"),
            "config.json: hidden_size is \"big\", expected an integer from 1 to 262144");
}

TEST(Config, TopKMustFitTheChosenGroups) {
  json config = GoldenConfig("deepseek_v3-groups");
  config["topk_group"] = 1;
  config["num_experts_per_tok"] = 5;
  EXPECT_THAT(ErrorOf(config), HasSubstr("num_experts_per_tok is 5, expected at most the 4"));
}

TEST(Config, ProductsOfSizesAreBoundedToo) {
  json config = GoldenConfig("mixtral");
  config["num_hidden_layers"] = 10'000;
  config["num_local_experts"] = 4096;
  EXPECT_THAT(ErrorOf(config), HasSubstr("num_hidden_layers 10000 x 4096 experts is more than"));
}

TEST(Config, AnOddRotaryPartIsRefused) {
  EXPECT_THAT(ErrorWith("deepseek_v3-groups", "qk_rope_head_dim", 7), HasSubstr("an even number"));
  EXPECT_THAT(ErrorWith("mixtral", "head_dim", 15), HasSubstr("an even number"));
}

TEST(Config, BadJsonIsRefused) {
  for (const char* text : {"", " ", "{", "[]", "null", "{\"model_type\":}", "{'a':1}",
                           "{\"a\":\"\xff\"}", "{\"rms_norm_eps\":NaN}", "{} {}"}) {
    EXPECT_FALSE(ParseModelConfig(text).ok()) << text;
  }
  EXPECT_FALSE(ParseModelConfig(std::string(1'000'000, '[')).ok());
}

TEST(Config, OfAKeyThatStandsTwiceTheLastCounts) {
  std::string text = GoldenConfig("mixtral").dump();
  text.insert(1, R"("vocab_size":7,)");
  const auto config = ParseModelConfig(text);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->vocab_size, 320);
}

}  // namespace
}  // namespace ballast
