#include "engine/balance_state.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ballast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

BalanceState Learned() {
  BalanceState state;
  state.fingerprint = "qwen3_moe 3x8";
  state.placement.resize(3);
  state.placement[1] = {2, 2, {0, 1, 2, -1}};
  state.placement[2] = {2, 2, {2, 1, 0, 1}};
  state.costs = {1.0 / 3e6, 2.5e-6, {1.0, 0.1 + 0.2}};
  return state;
}

TEST(BalanceState, ComesBackAsItWasWritten) {
  const std::string path = testing::TempDir() + "/balance_state.json";
  ASSERT_TRUE(WriteBalanceState(path, Learned()).ok());
  const absl::StatusOr<BalanceState> read = ReadBalanceState(path);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->fingerprint, Learned().fingerprint);
  ASSERT_EQ(read->placement.size(), 3);
  EXPECT_EQ(read->placement[0].slots_per_rank, 0);
  EXPECT_THAT(read->placement[1].slot_expert, ElementsAre(0, 1, 2, -1));
  EXPECT_EQ(read->placement[2].ranks, 2);
  EXPECT_NEAR(read->costs.tile_seconds, Learned().costs.tile_seconds, 1e-12);
  EXPECT_DOUBLE_EQ(read->costs.floor_seconds, Learned().costs.floor_seconds);
  ASSERT_EQ(read->costs.speed.size(), 2);
  EXPECT_DOUBLE_EQ(read->costs.speed[1], Learned().costs.speed[1]);
}

TEST(BalanceState, AbsentIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(ReadBalanceState(testing::TempDir() + "/no/such").status()));
}

TEST(BalanceState, AFolderThatCannotBeWrittenIsNamed) {
  const absl::Status status = WriteBalanceState("/no/such/folder/state", Learned());
  EXPECT_THAT(std::string(status.message()), HasSubstr("/no/such/folder/state"));
}

TEST(BalanceState, WhetherItCanBeWrittenIsKnownBefore) {
  const std::string path = testing::TempDir() + "/balance_state_writable.json";
  EXPECT_EQ(CheckBalanceStateIsWritable(path), absl::OkStatus());
  EXPECT_FALSE(std::filesystem::exists(path + ".new"));
  const absl::Status status = CheckBalanceStateIsWritable("/no/such/folder/state");
  EXPECT_THAT(std::string(status.message()), HasSubstr("/no/such/folder/state"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("No such file or directory"));
}

TEST(BalanceState, AFolderIsNoStateAndNothingIsLeftBesideIt) {
  const std::string path = testing::TempDir() + "/balance_state_folder";
  std::filesystem::create_directories(path);
  const absl::Status read = ReadBalanceState(path).status();
  EXPECT_TRUE(absl::IsInvalidArgument(read)) << read;
  EXPECT_TRUE(absl::IsUnavailable(WriteBalanceState(path, Learned())));
  EXPECT_FALSE(std::filesystem::exists(path + ".new"));
  std::filesystem::remove(path);
}

TEST(BalanceState, WhatIsWrongIsNamed) {
  const auto message = [](const std::string& text) {
    return std::string(ParseBalanceState(text).status().message());
  };
  const std::string whole = FormatBalanceState(Learned());
  const auto with = [&](const std::string& part, const std::string& other) {
    std::string text = whole;
    const size_t at = text.find(part);
    EXPECT_NE(at, std::string::npos) << part;
    return text.replace(at, part.size(), other);
  };
  EXPECT_NE(message(""), "");
  EXPECT_NE(message("[1, 2]"), "");
  EXPECT_THAT(message(with("fingerprint", "finger")), HasSubstr("fingerprint"));
  EXPECT_THAT(message(with("\"tile_seconds\": 3", "\"tile_seconds\": \"x")), testing::Ne(""));
  EXPECT_THAT(message(with("\"layer\": 1", "\"layer\": -1")), HasSubstr("layer"));
  EXPECT_THAT(message(with("\"layer\": 1", "\"layer\": 99999999")), HasSubstr("layer"));
  EXPECT_THAT(message(with("[0, 1, 2, -1]", "[0, 1.5]")), HasSubstr("1.5"));
  EXPECT_THAT(message(with("[0, 1, 2, -1]", "7")), HasSubstr("slot_expert"));
}

}  // namespace
}  // namespace ballast
