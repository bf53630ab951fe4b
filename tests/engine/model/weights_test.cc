#include "engine/model/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/weight_list.h"
#include "tests/engine/checkpoint/checkpoint_files.h"
#include "tests/engine/checkpoint/fake_device.h"

namespace ballast {
namespace {

using ::testing::HasSubstr;

using Loaded = std::unique_ptr<ModelWeights>;

absl::StatusOr<Loaded> Load(const std::string& folder, Compute compute = Compute::kExact,
                            const SlotExperts* slots = nullptr) {
  ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(folder));
  const ModelConfig& config = checkpoint->config();
  return LoadWeights(*checkpoint, config, slots != nullptr ? *slots : AllExperts(config),
                     FakeDevice(), {}, compute, nullptr);
}

Loaded LoadOrDie(const std::string& folder, Compute compute = Compute::kExact,
                 const SlotExperts* slots = nullptr) {
  auto loaded = Load(folder, compute, slots);
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  CHECK(loaded.ok());
  return *std::move(loaded);
}

// What Load says of a golden checkpoint with changed tensors.
std::string ErrorOf(std::string_view golden, const FileTensors& tensors) {
  TempFolder folder;
  folder.Write("config.json", GoldenConfig(golden).dump());
  folder.Write("model.safetensors", FileOf(tensors));
  const auto loaded = Load(folder.path());
  return loaded.ok() ? "accepted" : std::string(loaded.status().message());
}

std::vector<float> VectorOf(const float* data, size_t size) { return {data, data + size}; }

void ExpectSame(const PackedMatrix& a, const PackedMatrix& b) {
  ASSERT_EQ(a.n, b.n);
  ASSERT_EQ(a.k, b.k);
  EXPECT_EQ(Unpack(a), Unpack(b));
}

void ExpectSame(const MlpWeights& a, const MlpWeights& b) {
  ExpectSame(a.gate, b.gate);
  ExpectSame(a.up, b.up);
  ExpectSame(a.down, b.down);
}

// Grouped attention only.
void ExpectSame(const ModelWeights& a, const ModelWeights& b) {
  ExpectSame(a.embedding, b.embedding);
  ExpectSame(a.lm_head, b.lm_head);
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (size_t i = 0; i < a.layers.size(); ++i) {
    const AttentionWeights& attention = a.layers[i].attention;
    ExpectSame(attention.q, b.layers[i].attention.q);
    ExpectSame(attention.k, b.layers[i].attention.k);
    ExpectSame(attention.v, b.layers[i].attention.v);
    ExpectSame(attention.o, b.layers[i].attention.o);
    const MoeWeights& moe = a.layers[i].moe;
    ASSERT_EQ(moe.slots.size(), b.layers[i].moe.slots.size());
    if (moe.slots.empty()) {
      ExpectSame(a.layers[i].dense, b.layers[i].dense);
      continue;
    }
    ExpectSame(moe.router, b.layers[i].moe.router);
    for (size_t slot = 0; slot < moe.slots.size(); ++slot) {
      ExpectSame(moe.slots[slot], b.layers[i].moe.slots[slot]);
    }
  }
}

TEST(Weights, MatricesAndNormsAreTheFiles) {
  const FileTensors golden = GoldenTensors("qwen3_moe-mixed");
  const Loaded weights = LoadOrDie(GoldenPath("qwen3_moe-mixed"));
  const auto values = [&](const std::string& name) { return Values(golden.at(name)); };
  EXPECT_EQ(Unpack(weights->embedding), values("model.embed_tokens.weight"));
  EXPECT_EQ(VectorOf(weights->final_norm, 64), values("model.norm.weight"));
  const LayerWeights& dense = weights->layers[0];
  EXPECT_EQ(Unpack(dense.dense.down), values("model.layers.0.mlp.down_proj.weight"));
  EXPECT_EQ(dense.dense.down.n, 64);
  EXPECT_EQ(dense.dense.down.k, 72);
  EXPECT_TRUE(dense.moe.slots.empty());
  const LayerWeights& moe = weights->layers[1];
  EXPECT_EQ(VectorOf(moe.input_norm, 64), values("model.layers.1.input_layernorm.weight"));
  EXPECT_EQ(VectorOf(moe.attention.q_norm, 16), values("model.layers.1.self_attn.q_norm.weight"));
  EXPECT_EQ(Unpack(moe.moe.router), values("model.layers.1.mlp.gate.weight"));
  EXPECT_EQ(moe.moe.router_bias, nullptr);
  ASSERT_EQ(moe.moe.slots.size(), 12u);
  EXPECT_EQ(Unpack(moe.moe.slots[11].gate),
            values("model.layers.1.mlp.experts.11.gate_proj.weight"));
  EXPECT_EQ(Unpack(moe.moe.slots[11].up), values("model.layers.1.mlp.experts.11.up_proj.weight"));
  EXPECT_EQ(Unpack(moe.moe.slots[11].down),
            values("model.layers.1.mlp.experts.11.down_proj.weight"));
  EXPECT_EQ(moe.dense.gate.data, nullptr);
}

TEST(Weights, ATiedHeadIsTheEmbeddingItself) {
  const Loaded tied = LoadOrDie(GoldenPath("qwen3_moe-mixed"));
  EXPECT_EQ(tied->lm_head.data, tied->embedding.data);
  const Loaded untied = LoadOrDie(GoldenPath("qwen3_moe-norm"));
  EXPECT_NE(untied->lm_head.data, untied->embedding.data);
}

TEST(Weights, FusedExpertsEqualPerExpertOnes) {
  for (const char* name : {"mixtral", "qwen3_moe-mixed"}) {
    ExpectSame(*LoadOrDie(GoldenPath(name)), *LoadOrDie(GoldenPath(std::string(name) + "-fused")));
  }
}

TEST(Weights, ShardsEqualOneFile) {
  ExpectSame(*LoadOrDie(GoldenPath("qwen3_moe-norm")),
             *LoadOrDie(GoldenPath("qwen3_moe-norm-sharded")));
}

TEST(Weights, Float32CopiesKeepTheirTypeInExactCompute) {
  TempFolder folder;
  folder.Write("config.json", GoldenConfig("olmoe").dump());
  FileTensors tensors = GoldenTensors("olmoe");
  for (auto& [name, tensor] : tensors) tensor = AsF32(tensor);
  folder.Write("model.safetensors", FileOf(tensors));
  const Loaded exact = LoadOrDie(folder.path(), Compute::kExact);
  const Loaded published = LoadOrDie(GoldenPath("olmoe"), Compute::kExact);
  ExpectSame(*exact, *published);
  EXPECT_EQ(exact->embedding.type, DType::kF32);
  EXPECT_EQ(published->embedding.type, DType::kBF16);
  EXPECT_EQ(exact->layers[0].moe.router.type, DType::kF32);
  const Loaded rounded = LoadOrDie(folder.path(), Compute::kBF16);
  EXPECT_EQ(rounded->embedding.type, DType::kBF16);
  EXPECT_EQ(rounded->layers[0].moe.slots[0].gate.type, DType::kBF16);
  EXPECT_EQ(rounded->layers[0].moe.router.type, DType::kF32);
}

TEST(Weights, Float16NormsWidenExactly) {
  TempFolder folder;
  folder.Write("config.json", GoldenConfig("olmoe").dump());
  FileTensors tensors = GoldenTensors("olmoe");
  // 1, -2, 65504 (the largest), 2^-24 (the smallest), 2^-14, -0, the least, 1 + 2^-10
  const uint16_t bits[8] = {0x3c00, 0xc000, 0x7bff, 0x0001, 0x0400, 0x8000, 0xfbff, 0x3c01};
  FileTensor& norm = tensors["model.norm.weight"];
  norm.dtype = "F16";
  for (size_t i = 0; i < 64; ++i) std::memcpy(norm.bytes.data() + 2 * i, &bits[i % 8], 2);
  folder.Write("model.safetensors", FileOf(tensors));
  const Loaded weights = LoadOrDie(folder.path());
  const std::vector<float> expected = {1.0f,     -2.0f, 65504.0f,  0x1p-24f,
                                       0x1p-14f, -0.0f, -65504.0f, 1.0f + 0x1p-10f};
  const auto bits_of = [](const float* eight) {  // -0 is not 0 here
    std::array<uint32_t, 8> of_eight;
    std::memcpy(of_eight.data(), eight, sizeof of_eight);
    return of_eight;
  };
  EXPECT_EQ(bits_of(weights->final_norm), bits_of(expected.data()));
  EXPECT_EQ(bits_of(weights->final_norm + 56), bits_of(expected.data()));
}

TEST(Weights, UnalignedTensorsAreRead) {
  TempFolder folder;
  folder.Write("config.json", GoldenConfig("olmoe").dump());
  FileTensors tensors = GoldenTensors("olmoe");
  tensors["a"] = {"U8", {1}, "x"};  // sorts first and shifts all others by one byte
  folder.Write("model.safetensors", FileOf(tensors));
  ExpectSame(*LoadOrDie(folder.path()), *LoadOrDie(GoldenPath("olmoe")));
}

TEST(Weights, LatentKeysAndValuesAreCutByHead) {
  const FileTensors golden = GoldenTensors("deepseek_v3-groups");
  const Loaded weights = LoadOrDie(GoldenPath("deepseek_v3-groups"));
  const std::vector<float> kv_b =
      Values(golden.at("model.layers.1.self_attn.kv_b_proj.weight"));  // [4 * (16 + 16), 32]
  const AttentionWeights& attention = weights->layers[1].attention;
  ASSERT_EQ(attention.k_absorb.size(), 4u);
  ASSERT_EQ(attention.v_absorb.size(), 4u);
  for (size_t head = 0; head < 4; ++head) {
    EXPECT_EQ(attention.k_absorb[head].n, 32);
    EXPECT_EQ(attention.k_absorb[head].k, 16);
    const std::vector<float> k = Unpack(attention.k_absorb[head]);
    const std::vector<float> v = Unpack(attention.v_absorb[head]);
    for (size_t latent = 0; latent < 32; ++latent) {
      for (size_t i = 0; i < 16; ++i) {
        EXPECT_EQ(k[latent * 16 + i], kv_b[(head * 32 + i) * 32 + latent]);
        EXPECT_EQ(v[i * 32 + latent], kv_b[(head * 32 + 16 + i) * 32 + latent]);
      }
    }
  }
  EXPECT_EQ(attention.q_a.data, nullptr);
  EXPECT_EQ(attention.q.k, 64);
  EXPECT_EQ(attention.kv_a.n, 40);
  EXPECT_EQ(VectorOf(attention.kv_a_norm, 32),
            Values(golden.at("model.layers.1.self_attn.kv_a_layernorm.weight")));
  EXPECT_EQ(Unpack(weights->layers[1].moe.shared.up),
            Values(golden.at("model.layers.1.mlp.shared_experts.up_proj.weight")));
}

TEST(Weights, LowRankQueriesAreLoaded) {
  const FileTensors golden = GoldenTensors("deepseek_v3-qlora-yarn");
  const Loaded weights = LoadOrDie(GoldenPath("deepseek_v3-qlora-yarn"));
  const AttentionWeights& attention = weights->layers[0].attention;
  EXPECT_EQ(Unpack(attention.q_a), Values(golden.at("model.layers.0.self_attn.q_a_proj.weight")));
  EXPECT_EQ(Unpack(attention.q), Values(golden.at("model.layers.0.self_attn.q_b_proj.weight")));
  EXPECT_EQ(attention.q.k, 24);
  EXPECT_EQ(VectorOf(attention.q_a_norm, 24),
            Values(golden.at("model.layers.0.self_attn.q_a_layernorm.weight")));
}

TEST(Weights, CorrectionBiasesMayBeBf16OrF32) {
  const std::string name = "model.layers.2.mlp.gate.e_score_correction_bias";
  const FileTensors narrow = GoldenTensors("deepseek_v3-qlora-yarn");
  const FileTensors wide = GoldenTensors("deepseek_v3-qlora-yarn-oldkeys");
  ASSERT_EQ(narrow.at(name).dtype, "BF16");
  ASSERT_EQ(wide.at(name).dtype, "F32");
  for (const char* golden : {"deepseek_v3-qlora-yarn", "deepseek_v3-qlora-yarn-oldkeys"}) {
    const Loaded weights = LoadOrDie(GoldenPath(golden));
    EXPECT_EQ(VectorOf(weights->layers[2].moe.router_bias, 8), Values(narrow.at(name)));
  }
}

TEST(Weights, SlotsHoldTheExpertsTheyAreTold) {
  const SlotExperts slots = {{3, -1, 0, 3}, {}, {7}};
  for (const char* golden : {"mixtral", "mixtral-fused"}) {
    const Loaded all = LoadOrDie(GoldenPath(golden));
    const Loaded some = LoadOrDie(GoldenPath(golden), Compute::kExact, &slots);
    ASSERT_EQ(some->layers[0].moe.slots.size(), 4u);
    ExpectSame(some->layers[0].moe.slots[0], all->layers[0].moe.slots[3]);
    EXPECT_EQ(some->layers[0].moe.slots[1].gate.data, nullptr);
    ExpectSame(some->layers[0].moe.slots[2], all->layers[0].moe.slots[0]);
    ExpectSame(some->layers[0].moe.slots[3], all->layers[0].moe.slots[3]);
    EXPECT_TRUE(some->layers[1].moe.slots.empty());
    ExpectSame(some->layers[2].moe.slots[0], all->layers[2].moe.slots[7]);
    EXPECT_LT(some->bytes, all->bytes);
  }
}

TEST(Weights, LayersPastTheLastAreIgnored) {
  TempFolder folder;
  folder.Write("config.json", GoldenConfig("olmoe").dump());
  FileTensors tensors = GoldenTensors("olmoe");
  tensors["model.layers.3.eh_proj.weight"] = Bf16Tensor({1}, {1});
  tensors["mtp.fc.weight"] = Bf16Tensor({1}, {1});
  folder.Write("model.safetensors", FileOf(tensors));
  ExpectSame(*LoadOrDie(folder.path()), *LoadOrDie(GoldenPath("olmoe")));
}

TEST(Weights, ProgressEndsAtTheTotal) {
  const auto checkpoint = Checkpoint::Open(GoldenPath("olmoe"));
  ASSERT_TRUE(checkpoint.ok());
  const ModelConfig& config = (*checkpoint)->config();
  size_t last = 0;
  size_t whole = 0;
  const auto loaded = LoadWeights(**checkpoint, config, AllExperts(config), FakeDevice(), {},
                                  Compute::kExact, [&](size_t done, size_t total) {
                                    EXPECT_GE(done, last);
                                    last = done;
                                    whole = total;
                                  });
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  size_t bytes = 0;
  for (const auto& [name, tensor] : GoldenTensors("olmoe")) bytes += tensor.bytes.size();
  EXPECT_EQ(last, bytes);
  EXPECT_EQ(whole, bytes);
}

TEST(Weights, AWrongShapeIsNamed) {
  FileTensors tensors = GoldenTensors("qwen3_moe-norm");
  FileTensor& gate = tensors["model.layers.1.mlp.gate.weight"];
  gate.shape = {8, 63};
  gate.bytes.resize(8 * 63 * 2);
  EXPECT_EQ(ErrorOf("qwen3_moe-norm", tensors),
            "model.safetensors: model.layers.1.mlp.gate.weight has shape [8, 63], "
            "expected [8, 64]");
  gate.shape = {64, 8};
  gate.bytes.resize(8 * 64 * 2);
  EXPECT_THAT(ErrorOf("qwen3_moe-norm", tensors), HasSubstr("has shape [64, 8]"));
  gate.shape = {512};
  EXPECT_THAT(ErrorOf("qwen3_moe-norm", tensors), HasSubstr("has shape [512]"));
}

TEST(Weights, EveryTensorIsMissed) {
  for (const char* golden : {"deepseek_v3-qlora-yarn", "mixtral-fused", "olmoe"}) {
    const FileTensors whole = GoldenTensors(golden);
    for (const auto& [name, tensor] : whole) {
      FileTensors tensors = whole;
      tensors.erase(name);
      const std::string error = ErrorOf(golden, tensors);
      // Without its first fused tensor a file looks like a per-expert one.
      if (name.find("layers.0.mlp.experts.gate_up_proj") != std::string::npos) {
        EXPECT_THAT(error, HasSubstr("is missing"));
      } else {
        EXPECT_EQ(error, "model.safetensors: " + name + " is missing");
      }
    }
  }
}

TEST(Weights, TypesThatWeightsCannotHaveAreRefusedByName) {
  FileTensors tensors = GoldenTensors("olmoe");
  FileTensor& up = tensors["model.layers.2.mlp.experts.7.up_proj.weight"];
  up.dtype = "F8_E4M3";
  up.bytes.resize(up.bytes.size() / 2);
  EXPECT_EQ(ErrorOf("olmoe", tensors),
            "model.safetensors: model.layers.2.mlp.experts.7.up_proj.weight has type F8_E4M3, "
            "expected BF16, F16 or F32");
}

TEST(Weights, RunningOutOfMemoryIsAnError) {
  const auto checkpoint = Checkpoint::Open(GoldenPath("olmoe"));
  ASSERT_TRUE(checkpoint.ok());
  Device device = FakeDevice();
  device.allocate = [](Stream, size_t) -> void* { return nullptr; };
  const ModelConfig& config = (*checkpoint)->config();
  const auto loaded =
      LoadWeights(**checkpoint, config, AllExperts(config), device, {}, Compute::kExact, nullptr);
  EXPECT_TRUE(absl::IsResourceExhausted(loaded.status())) << loaded.status();
  EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("no memory for the weights: "));
}

}  // namespace
}  // namespace ballast
