#include "engine/checkpoint/generation_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace ballast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(GenerationConfig, ReadsEveryDefault) {
  const auto config = ParseGenerationConfig(
      R"({"temperature":0.7,"top_p":0.9,"top_k":20,"min_p":0.05,"repetition_penalty":1.1,)"
      R"("max_new_tokens":2048,"eos_token_id":[151645,151643],"bos_token_id":3,"do_sample":true})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_FLOAT_EQ(*config->defaults.temperature, 0.7f);
  EXPECT_FLOAT_EQ(*config->defaults.top_p, 0.9f);
  EXPECT_EQ(*config->defaults.top_k, 20);
  EXPECT_FLOAT_EQ(*config->defaults.min_p, 0.05f);
  EXPECT_FLOAT_EQ(*config->defaults.repetition_penalty, 1.1f);
  EXPECT_EQ(*config->defaults.max_new_tokens, 2048);
  EXPECT_THAT(config->eos_token_ids, ElementsAre(151645, 151643));
  EXPECT_EQ(*config->bos_token_id, 3);
}

TEST(GenerationConfig, AbsentAndNullAreUnset) {
  const auto config = ParseGenerationConfig(R"({"temperature":null,"eos_token_id":2})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_FALSE(config->defaults.temperature.has_value());
  EXPECT_FALSE(config->defaults.top_k.has_value());
  EXPECT_FALSE(config->bos_token_id.has_value());
  EXPECT_THAT(config->eos_token_ids, ElementsAre(2));
}

TEST(GenerationConfig, NamesTheFieldThatIsWrong) {
  for (const char* json :
       {R"({"temperature":-1})", R"({"temperature":"hot"})", R"({"top_p":0})", R"({"top_p":1.5})",
        R"({"top_k":-2})", R"({"top_k":1.5})", R"({"min_p":2})", R"({"repetition_penalty":0})",
        R"({"max_new_tokens":0})", R"({"max_new_tokens":1e18})", R"({"eos_token_id":"2"})",
        R"({"eos_token_id":[1,[2]]})", R"({"bos_token_id":1.5})"}) {
    const auto config = ParseGenerationConfig(json);
    ASSERT_FALSE(config.ok()) << json;
    const std::string message(config.status().message());
    EXPECT_THAT(message, HasSubstr("generation_config.json: "));
    const std::string text(json);
    EXPECT_THAT(message, HasSubstr(text.substr(2, text.find('"', 2) - 2)));
  }
}

TEST(GenerationConfig, RefusesBadJson) {
  for (const char* json : {"", "{", "[]", "3", "{\"temperature\":NaN}", "{\"a\":1}x"}) {
    EXPECT_FALSE(ParseGenerationConfig(json).ok()) << json;
  }
}

}  // namespace
}  // namespace ballast
