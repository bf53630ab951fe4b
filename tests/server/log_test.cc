#include "server/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

namespace ballast {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Not;

TEST(Log, TextLinesHoldTimeLevelEventAndFields) {
  std::ostringstream out;
  Log log({"info", "text"}, &out);
  log.Info("listening", {{"grpc", "127.0.0.1:7000"}, {"http", "[::1]:7001"}, {"tries", 3}});
  EXPECT_THAT(out.str(), MatchesRegex("[0-9]+-[0-9]+-[0-9]+T[0-9:.]+Z info .*\n"));
  EXPECT_THAT(out.str(), HasSubstr("listening grpc=127.0.0.1:7000 http=[::1]:7001 tries=3\n"));
}

TEST(Log, LessSevereLinesAreLeftOut) {
  std::ostringstream out;
  Log log({"warning", "text"}, &out);
  log.Debug("a");
  log.Info("b");
  EXPECT_THAT(out.str(), IsEmpty());
  EXPECT_FALSE(log.Enabled(LogLevel::kInfo));
  log.Warning("c");
  EXPECT_THAT(out.str(), EndsWith("warning c\n"));
}

TEST(Log, ForeignTextStaysInItsFieldAndOnItsLine) {
  std::ostringstream out;
  Log log({"info", "text"}, &out);
  log.Info("x", {{"name", "a b=\"c\"\nfake info line"}});
  EXPECT_THAT(out.str(), EndsWith("x name=\"a b=\\\"c\\\"\\nfake info line\"\n"));
  EXPECT_EQ(out.str().find('\n'), out.str().size() - 1);
  log.Info("y", {{"quote", "a\"b"}, {"sign", "a=b"}, {"nothing", ""}});
  EXPECT_THAT(out.str(), EndsWith("y quote=\"a\\\"b\" sign=\"a=b\" nothing=\"\"\n"));
}

TEST(Log, JsonLinesParse) {
  std::ostringstream out;
  Log log({"info", "json"}, &out);
  log.Error("it \"broke\" {}", {{"why", "line\nbreak \xff"}, {"bytes", int64_t{5}}});
  const auto json = nlohmann::json::parse(out.str());
  EXPECT_EQ(json["level"], "error");
  EXPECT_EQ(json["event"], "it \"broke\" {}");
  EXPECT_EQ(json["bytes"], 5);
  EXPECT_THAT(json["why"].get<std::string>(), HasSubstr("line\nbreak"));
  EXPECT_THAT(json["time"].get<std::string>(), Not(IsEmpty()));
}

}  // namespace
}  // namespace ballast
