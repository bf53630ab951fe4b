#include "engine/checkpoint/shard_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace ballast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(std::string_view json) {
  const auto shards = ParseShardIndex("index.json", json);
  return shards.ok() ? "accepted" : std::string(shards.status().message());
}

TEST(ShardIndex, GroupsTensorsByFile) {
  const auto shards = ParseShardIndex(
      "i", R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"1.safetensors"}})");
  ASSERT_TRUE(shards.ok()) << shards.status();
  EXPECT_THAT(shards->at("1.safetensors"), ElementsAre("a", "c"));
  EXPECT_THAT(shards->at("2.safetensors"), ElementsAre("b"));
}

TEST(ShardIndex, RefusesNamesThatLeaveTheFolder) {
  for (const char* name :
       {"../m.safetensors", "/etc/m.safetensors", "a/m.safetensors", "..", "", ".safetensors",
        "..\\\\m.safetensors", "m.safetensors\\u0000.safetensors", "m.bin"}) {
    const std::string json = std::string(R"({"weight_map":{"w":")") + name + "\"}}";
    EXPECT_THAT(ErrorOf(json), HasSubstr("index.json: weight_map.w is ")) << name;
  }
}

TEST(ShardIndex, RefusesMalformedFiles) {
  EXPECT_THAT(ErrorOf("{"), HasSubstr("not JSON"));
  EXPECT_THAT(ErrorOf("[]"), HasSubstr("weight_map is missing"));
  EXPECT_THAT(ErrorOf("{}"), HasSubstr("weight_map is missing"));
  EXPECT_THAT(ErrorOf(R"({"weight_map":{}})"), HasSubstr("weight_map is empty"));
  EXPECT_THAT(ErrorOf(R"({"weight_map":{"w":7}})"), HasSubstr("weight_map.w is 7"));
  EXPECT_THAT(ErrorOf(R"({"weight_map":{"w":"a.safetensors","w":"b.safetensors"}})"),
              HasSubstr("w stands twice"));
}

}  // namespace
}  // namespace ballast
