#include "engine/model/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "engine/model/weight_list.h"
#include "tests/engine/checkpoint/checkpoint_files.h"
#include "tests/engine/checkpoint/fake_device.h"

namespace ballast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

MemoryPlan Plan(const ModelConfig& config, const Checkpoint* checkpoint, Compute compute) {
  return PlanMemory(config, checkpoint, AllExperts(config), FakeDevice(), compute, 12345);
}

std::unique_ptr<Checkpoint> Open(const std::string& folder) {
  auto checkpoint = Checkpoint::Open(folder);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return *std::move(checkpoint);
}

int64_t Elements(const FileTensors& tensors) {
  int64_t count = 0;
  for (const auto& [name, tensor] : tensors) {
    int64_t size = 1;
    for (int64_t dim : tensor.shape) size *= dim;
    count += size;
  }
  return count;
}

TEST(MemoryPlan, ParametersAreThoseOfTheFile) {
  for (const char* golden :
       {"deepseek_v3-groups", "deepseek_v3-qlora-yarn", "qwen3_moe-norm", "qwen3_moe-mixed",
        "qwen3_moe-mixed-fused", "olmoe", "olmoe-clip", "mixtral", "mixtral-fused"}) {
    const auto checkpoint = Open(GoldenPath(golden));
    const MemoryPlan plan = Plan(checkpoint->config(), checkpoint.get(), Compute::kExact);
    EXPECT_EQ(plan.parameters, Elements(GoldenTensors(golden))) << golden;
    EXPECT_THAT(plan.unsupported, IsEmpty());
    EXPECT_EQ(plan.workspace_bytes, 12345u);
  }
}

TEST(MemoryPlan, IdleExpertsAreNotActive) {
  const auto checkpoint = Open(GoldenPath("qwen3_moe-mixed"));
  const MemoryPlan plan = Plan(checkpoint->config(), checkpoint.get(), Compute::kExact);
  // One MoE layer, 12 experts of which 3 run, each three matrices of 40 x 64.
  EXPECT_EQ(plan.parameters - plan.active_parameters, 9 * 3 * 40 * 64);
}

TEST(MemoryPlan, WeightBytesAreWhatLoadingTakes) {
  for (const char* golden : {"deepseek_v3-groups", "qwen3_moe-mixed", "mixtral-fused"}) {
    const auto checkpoint = Open(GoldenPath(golden));
    const ModelConfig& config = checkpoint->config();
    for (Compute compute : {Compute::kExact, Compute::kBF16}) {
      const auto weights =
          LoadWeights(*checkpoint, config, AllExperts(config), FakeDevice(), {}, compute, nullptr);
      ASSERT_TRUE(weights.ok()) << weights.status();
      EXPECT_EQ(Plan(config, checkpoint.get(), compute).weights_bytes, (*weights)->bytes);
      // These files are in the published type throughout, the routers' biases apart.
      EXPECT_EQ(Plan(config, nullptr, compute).weights_bytes, (*weights)->bytes);
    }
  }
}

TEST(MemoryPlan, EveryTensorsOwnTypeCounts) {
  TempFolder folder;
  folder.Write("config.json", GoldenConfig("olmoe").dump());
  FileTensors tensors = GoldenTensors("olmoe");
  tensors["lm_head.weight"] = AsF32(tensors["lm_head.weight"]);
  folder.Write("model.safetensors", FileOf(tensors));
  const auto checkpoint = Open(folder.path());
  const ModelConfig& config = checkpoint->config();
  const size_t head = 320 * 64 * 2;
  EXPECT_EQ(Plan(config, checkpoint.get(), Compute::kExact).weights_bytes,
            Plan(config, nullptr, Compute::kExact).weights_bytes + head);
  EXPECT_EQ(Plan(config, checkpoint.get(), Compute::kBF16).weights_bytes,
            Plan(config, nullptr, Compute::kBF16).weights_bytes);
}

TEST(MemoryPlan, KeysAndValuesPerToken) {
  const auto grouped = ReadModelConfig(GoldenPath("qwen3_moe-norm"));
  ASSERT_TRUE(grouped.ok());
  // 3 layers x 2 kv heads x (32 + 32) values
  EXPECT_EQ(KvBytesPerToken(*grouped, FakeDevice(), Compute::kExact), 3u * 2 * 64 * 4);
  EXPECT_EQ(KvBytesPerToken(*grouped, FakeDevice(), Compute::kBF16), 3u * 2 * 64 * 2);
  const auto latent = ReadModelConfig(GoldenPath("deepseek_v3-groups"));
  ASSERT_TRUE(latent.ok());
  // 3 layers x (32 latent + 8 rope): one latent, shared by all heads
  EXPECT_EQ(KvBytesPerToken(*latent, FakeDevice(), Compute::kBF16), 3u * 40 * 2);
}

TEST(MemoryPlan, ListsTensorsThatLoadingWouldRefuse) {
  TempFolder folder;
  folder.Write("config.json", GoldenConfig("olmoe").dump());
  FileTensors tensors = GoldenTensors("olmoe");
  tensors.erase("model.norm.weight");
  tensors["model.layers.0.self_attn.q_norm.weight"] = Bf16Tensor({1}, {1});
  folder.Write("model.safetensors", FileOf(tensors));
  const auto checkpoint = Open(folder.path());
  EXPECT_THAT(Plan(checkpoint->config(), checkpoint.get(), Compute::kExact).unsupported,
              ElementsAre("model.safetensors: model.layers.0.self_attn.q_norm.weight has shape "
                          "[1], expected [64]",
                          "model.safetensors: model.norm.weight is missing"));
}

TEST(MemoryPlan, ALongListIsCutShort) {
  TempFolder folder;
  folder.Write("config.json", GoldenConfig("olmoe").dump());
  folder.Write("model.safetensors", FileOf({{"w", Bf16Tensor({1}, {1})}}));
  const auto checkpoint = Open(folder.path());
  const MemoryPlan plan = Plan(checkpoint->config(), checkpoint.get(), Compute::kExact);
  ASSERT_THAT(plan.unsupported, SizeIs(11));
  EXPECT_THAT(plan.unsupported.back(), HasSubstr("more tensors"));
}

TEST(MemoryPlan, UnsupportedKeysAreCarriedOver) {
  nlohmann::json text = GoldenConfig("mixtral");
  text["attention_bias"] = true;
  const auto config = ParseModelConfig(text.dump());
  ASSERT_TRUE(config.ok());
  EXPECT_THAT(Plan(*config, nullptr, Compute::kBF16).unsupported,
              ElementsAre("attention_bias true"));
}

// Published shapes: the totals that everybody quotes.
TEST(MemoryPlan, PublishedModelsHaveTheirPublishedSizes) {
  nlohmann::json qwen = GoldenConfig("qwen3_moe-norm");
  qwen.update({{"num_hidden_layers", 48},
               {"hidden_size", 2048},
               {"num_attention_heads", 32},
               {"num_key_value_heads", 4},
               {"head_dim", 128},
               {"intermediate_size", 6144},
               {"moe_intermediate_size", 768},
               {"num_local_experts", 128},
               {"num_experts_per_tok", 8},
               {"vocab_size", 151936}});
  const auto config = ParseModelConfig(qwen.dump());
  ASSERT_TRUE(config.ok()) << config.status();
  const MemoryPlan plan = Plan(*config, nullptr, Compute::kBF16);
  EXPECT_EQ(plan.parameters, 30'532'122'624);
  EXPECT_NEAR(static_cast<double>(plan.active_parameters), 3.35e9, 0.05e9);

  nlohmann::json deepseek = GoldenConfig("deepseek_v3-qlora-yarn");
  deepseek.update({{"num_hidden_layers", 61},
                   {"hidden_size", 7168},
                   {"num_attention_heads", 128},
                   {"num_key_value_heads", 128},
                   {"intermediate_size", 18432},
                   {"moe_intermediate_size", 2048},
                   {"n_routed_experts", 256},
                   {"num_experts_per_tok", 8},
                   {"vocab_size", 129280},
                   {"q_lora_rank", 1536},
                   {"kv_lora_rank", 512},
                   {"qk_nope_head_dim", 128},
                   {"qk_rope_head_dim", 64},
                   {"v_head_dim", 128},
                   {"n_group", 8},
                   {"topk_group", 4},
                   {"first_k_dense_replace", 3}});
  const auto v3 = ParseModelConfig(deepseek.dump());
  ASSERT_TRUE(v3.ok()) << v3.status();
  const MemoryPlan large = Plan(*v3, nullptr, Compute::kBF16);
  EXPECT_NEAR(static_cast<double>(large.parameters), 671.03e9, 0.01e9);
  EXPECT_NEAR(static_cast<double>(large.active_parameters), 37.55e9, 0.1e9);
}

}  // namespace
}  // namespace ballast
