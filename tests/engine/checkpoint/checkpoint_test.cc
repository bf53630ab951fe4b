#include "engine/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <string>

#include "engine/model/families/family.h"
#include "tests/engine/checkpoint/checkpoint_files.h"

namespace ballast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(const std::string& folder) {
  const auto checkpoint = Checkpoint::Open(folder);
  return checkpoint.ok() ? "accepted" : std::string(checkpoint.status().message());
}

// A folder with the config of the golden qwen3_moe-norm.
void WriteConfig(const TempFolder& folder) {
  folder.Write("config.json", GoldenConfig("qwen3_moe-norm").dump());
}

TEST(Checkpoint, OpensASingleFile) {
  const auto checkpoint = Checkpoint::Open(GoldenPath("qwen3_moe-norm"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const FileTensors golden = GoldenTensors("qwen3_moe-norm");
  EXPECT_EQ((*checkpoint)->tensors().size(), golden.size());
  for (const auto& [name, tensor] : golden) {
    const TensorView* view = (*checkpoint)->Find(name);
    ASSERT_NE(view, nullptr) << name;
    EXPECT_EQ(view->shape, tensor.shape);
    EXPECT_EQ(std::string(static_cast<const char*>(view->data), view->bytes), tensor.bytes);
  }
  EXPECT_STREQ((*checkpoint)->family().model_type, "qwen3_moe");
  EXPECT_EQ((*checkpoint)->Find("nothing"), nullptr);
}

TEST(Checkpoint, AShardedCopyHoldsTheSameTensors) {
  const auto checkpoint = Checkpoint::Open(GoldenPath("qwen3_moe-norm-sharded"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const FileTensors golden = GoldenTensors("qwen3_moe-norm");
  ASSERT_EQ((*checkpoint)->tensors().size(), golden.size());
  for (const auto& [name, tensor] : golden) {
    const TensorView* view = (*checkpoint)->Find(name);
    ASSERT_NE(view, nullptr) << name;
    EXPECT_EQ(std::string(static_cast<const char*>(view->data), view->bytes), tensor.bytes);
  }
}

TEST(Checkpoint, ADiscardedTensorCanBeReadAgain) {
  const auto checkpoint = Checkpoint::Open(GoldenPath("olmoe"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const FileTensors golden = GoldenTensors("olmoe");
  for (const auto& [name, tensor] : golden) {
    const TensorView& view = *(*checkpoint)->Find(name);
    (*checkpoint)->Discard(view);
    EXPECT_EQ(std::memcmp(view.data, tensor.bytes.data(), view.bytes), 0) << name;
  }
}

TEST(Checkpoint, EndTokensComeFromGenerationConfigFirst) {
  TempFolder folder;
  nlohmann::json config = GoldenConfig("qwen3_moe-norm");
  config["eos_token_id"] = 5;
  folder.Write("config.json", config.dump());
  EXPECT_THAT(ReadModelConfig(folder.path())->eos_token_ids, ElementsAre(5));
  folder.Write("generation_config.json", R"({"temperature":0.5})");
  EXPECT_THAT(ReadModelConfig(folder.path())->eos_token_ids, ElementsAre(5));
  // 99999 is outside the vocabulary: nothing can end there.
  folder.Write("generation_config.json", R"({"eos_token_id":[7,8,99999],"bos_token_id":9})");
  EXPECT_THAT(ReadModelConfig(folder.path())->eos_token_ids, ElementsAre(7, 8));
  EXPECT_EQ(ReadModelConfig(folder.path())->bos_token_id, 9);
}

TEST(Checkpoint, ABadGenerationConfigIsAnError) {
  TempFolder folder;
  WriteConfig(folder);
  folder.Write("generation_config.json", R"({"top_p":2})");
  EXPECT_THAT(ErrorOf(folder.path()), HasSubstr("generation_config.json: top_p is 2, expected"));
}

TEST(Checkpoint, NamesWhatIsMissing) {
  TempFolder folder;
  EXPECT_THAT(ErrorOf("/no/such/folder"), HasSubstr("/no/such/folder/config.json: cannot open"));
  EXPECT_THAT(ErrorOf(folder.path()), HasSubstr("/config.json: cannot open"));
  WriteConfig(folder);
  EXPECT_THAT(ErrorOf(folder.path()),
              HasSubstr("holds neither model.safetensors nor model.safetensors.index.json"));
}

TEST(Checkpoint, RefusesFilesThatAreNoFiles) {
  TempFolder folder;
  WriteConfig(folder);
  ASSERT_EQ(mkdir((folder.path() + "/model.safetensors").c_str(), 0700), 0);
  EXPECT_THAT(ErrorOf(folder.path()), HasSubstr("not a regular file"));
  TempFolder other;
  ASSERT_EQ(mkfifo((other.path() + "/config.json").c_str(), 0600), 0);
  EXPECT_THAT(ErrorOf(other.path()), HasSubstr("not a regular file"));
}

TEST(Checkpoint, RefusesAnEmptyOrBrokenFile) {
  TempFolder folder;
  WriteConfig(folder);
  folder.Write("model.safetensors", "");
  EXPECT_THAT(ErrorOf(folder.path()), HasSubstr("model.safetensors: has 0 bytes"));
  folder.Write("model.safetensors", FileOf("{", ""));
  EXPECT_THAT(ErrorOf(folder.path()), HasSubstr("model.safetensors: header is not JSON"));
}

TEST(Checkpoint, NamesTheShardThatIsMissing) {
  TempFolder folder;
  WriteConfig(folder);
  folder.Write("model.safetensors.index.json", R"({"weight_map":{"w":"one.safetensors"}})");
  EXPECT_THAT(ErrorOf(folder.path()),
              HasSubstr("one.safetensors: missing, but model.safetensors.index.json names it"));
}

TEST(Checkpoint, NamesTheTensorThatAShardLacks) {
  TempFolder folder;
  WriteConfig(folder);
  folder.Write("one.safetensors", FileOf({{"v", Bf16Tensor({1}, {1})}}));
  folder.Write("model.safetensors.index.json", R"({"weight_map":{"w":"one.safetensors"}})");
  EXPECT_THAT(ErrorOf(folder.path()), HasSubstr("one.safetensors: w is missing"));
}

TEST(Checkpoint, RefusesShardsOutsideTheFolder) {
  TempFolder folder;
  WriteConfig(folder);
  folder.Write("model.safetensors.index.json", R"({"weight_map":{"w":"../one.safetensors"}})");
  EXPECT_THAT(ErrorOf(folder.path()), HasSubstr("weight_map.w is \"../one.safetensors\""));
}

TEST(Checkpoint, RequireNamesFileShapeAndType) {
  TempFolder folder;
  WriteConfig(folder);
  FileTensors tensors = {{"w", Bf16Tensor({1, 2}, {1, 2})}};
  tensors["f8"] = {"F8_E4M3", {2}, "12"};
  folder.Write("model.safetensors", FileOf(tensors));
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE((*checkpoint)->Require("w", {1, 2}).ok());
  EXPECT_EQ((*checkpoint)->Require("w", {2, 1}).status().message(),
            "model.safetensors: w has shape [1, 2], expected [2, 1]");
  EXPECT_EQ((*checkpoint)->Require("x", {2}).status().message(), "model.safetensors: x is missing");
  EXPECT_EQ((*checkpoint)->Require("f8", {2}).status().message(),
            "model.safetensors: f8 has type F8_E4M3, expected BF16, F16 or F32");
}

TEST(Checkpoint, WhatTheForwardPassDoesNotDoIsListedAndNotServed) {
  TempFolder folder;
  nlohmann::json config = GoldenConfig("qwen3_moe-norm");
  config["attention_bias"] = true;
  config["quantization_config"] = {{"quant_method", "fp8"}};
  folder.Write("config.json", config.dump());
  const auto read = ReadModelConfig(folder.path());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(read->unsupported,
              ElementsAre("attention_bias true", "quantization_config (quant_method fp8)"));
  const auto checkpoint = Checkpoint::Open(folder.path());
  EXPECT_TRUE(absl::IsUnimplemented(checkpoint.status())) << checkpoint.status();
  EXPECT_THAT(std::string(checkpoint.status().message()),
              HasSubstr("config.json: not supported: attention_bias true; quantization_config"));
}

}  // namespace
}  // namespace ballast
