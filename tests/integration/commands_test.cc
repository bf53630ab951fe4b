// The commands as a user meets them: the built program on the bundled model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "tests/integration/served_model.h"

namespace ballast {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

Finished Ballast(std::vector<std::string> arguments, const std::string& input = "") {
  arguments.insert(arguments.begin(), BALLAST_PROGRAM);
  return RunProgram(arguments, input);
}

TEST(Commands, WrongUsageExitsWithTwoAndHelpWithZero) {
  EXPECT_EQ(Ballast({}).code, 2);
  EXPECT_EQ(Ballast({"--help"}).code, 0);
  EXPECT_THAT(Ballast({"--version"}).out, StartsWith("ballast "));
  const Finished unknown = Ballast({"generat", "x"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("did you mean 'generate'?"));
  for (const char* command : {"serve", "generate", "inspect"}) {
    const Finished help = Ballast({command, "--help"});
    EXPECT_EQ(help.code, 0);
    EXPECT_THAT(help.out, HasSubstr("Examples:"));
    const Finished wrong = Ballast({command, "x", "--no-such-flag"});
    EXPECT_EQ(wrong.code, 2);
    EXPECT_EQ(wrong.out, "");
  }
}

TEST(Commands, InspectCountsTheBundledModel) {
  const Finished inspected = Ballast({"inspect", "--json", kBundledModel});
  ASSERT_EQ(inspected.code, 0) << inspected.err;
  const auto json = nlohmann::json::parse(inspected.out);
  EXPECT_EQ(json["name"], "ballast-mini");
  EXPECT_EQ(json["model_type"], "deepseek_v3");
  EXPECT_EQ(json["parameters"], 19533600);
  EXPECT_EQ(json["active_parameters"], 5771040);
  EXPECT_EQ(json["has_tokenizer"], true);
  EXPECT_EQ(json["unsupported"], nlohmann::json::array());
  EXPECT_GT(json["weights_bytes"], 0);
  EXPECT_GT(json["workspace_bytes"], 0);
  EXPECT_EQ(json["kv_bytes_per_token"], 6 * (64 + 16) * 2);
}

TEST(Commands, InspectRefusesWhatIsNoCheckpoint) {
  const Finished inspected = Ballast({"inspect", testing::TempDir()});
  EXPECT_EQ(inspected.code, 1);
  EXPECT_THAT(inspected.err, HasSubstr("config.json"));
}

TEST(Commands, StreamedAndUnaryTextAgree) {
  const ServedModel server;
  const std::vector<std::string> greedy = {"--temperature", "0", "--max-tokens", "12"};
  std::vector<std::string> arguments = greedy;
  arguments.push_back("The experts");
  const Finished streamed = server.Generate(arguments);
  ASSERT_EQ(streamed.code, 0) << streamed.err;
  EXPECT_NE(streamed.out, "");

  arguments.push_back("--json");
  const Finished unary = server.Generate(arguments);
  ASSERT_EQ(unary.code, 0) << unary.err;
  const auto json = nlohmann::json::parse(unary.out);
  EXPECT_EQ(json["outputs"][0]["text"], streamed.out);
  EXPECT_EQ(json["usage"]["completion_tokens"], 12);

  arguments = greedy;
  arguments.push_back("-");
  EXPECT_EQ(server.Generate(arguments, "The experts").out, streamed.out);
}

TEST(Commands, GenerateSaysWhatIsWrong) {
  const ServedModel server;
  const Finished range = server.Generate({"--top-p", "1.5", "x"});
  EXPECT_EQ(range.code, 1);
  EXPECT_THAT(range.err, HasSubstr("INVALID_ARGUMENT"));
  EXPECT_THAT(range.err, HasSubstr("field sampling.top_p: found 1.5"));
  const Finished bytes = server.Generate({"-"}, "ab\xff");
  EXPECT_EQ(bytes.code, 1);
  EXPECT_THAT(bytes.err, HasSubstr("stdin: found byte 0xff at offset 2"));
  const Finished nobody = Ballast({"generate", "--server", "127.0.0.1:1", "x"});
  EXPECT_EQ(nobody.code, 1);
  EXPECT_THAT(nobody.err, HasSubstr("no connection to the server at 127.0.0.1:1"));
}

TEST(Commands, ATakenPortEndsServeWithOne) {
  const ServedModel server;
  const Finished second =
      Ballast({"serve", kBundledModel, "--grpc", server.grpc(), "--http", "127.0.0.1:0"});
  EXPECT_EQ(second.code, 1);
  EXPECT_THAT(second.err, HasSubstr(server.grpc()));
}

TEST(Commands, ServeRefusesWhatCannotFitWithTheNumbers) {
  const Finished refused =
      RunProgram(ServeCommand({"--kv-memory", "1000TiB", "--compute", "exact"}));
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("does not fit"));
}

TEST(Commands, TermLetsARunningRequestFinish) {
  ServedModel server;
  Process client(server.GenerateCommand({"--ignore-eos", "--max-tokens", "1500", "The experts"}));
  ASSERT_TRUE(client.WaitForOut());
  server.process().Signal(SIGTERM);
  const Finished answer = client.Wait();
  EXPECT_EQ(answer.code, 0) << answer.err;
  EXPECT_EQ(server.process().Wait().code, 0);
}

TEST(Commands, ThePassedDrainLimitFailsWhatStillRuns) {
  ServedModel server({"--drain-timeout", "0s"});
  Process client(server.GenerateCommand({"--ignore-eos", "--max-tokens", "2000", "The experts"}));
  ASSERT_TRUE(client.WaitForOut());
  client.Signal(SIGSTOP);  // a client that cannot finish first
  server.process().Signal(SIGTERM);
  const Finished ended = server.process().Wait();
  client.Signal(SIGCONT);
  EXPECT_EQ(ended.code, 0);
  EXPECT_THAT(ended.err, HasSubstr("stopped"));
  client.Wait();
}

TEST(Commands, InterruptedClientsGoQuietly) {
  const ServedModel server;
  Process client(server.GenerateCommand({"--ignore-eos", "The experts"}));
  ASSERT_TRUE(client.WaitForOut());
  client.Signal(SIGINT);
  const Finished ended = client.Wait();
  EXPECT_THAT(ended.code, ::testing::AnyOf(0, 1));  // 0: it was faster
  EXPECT_EQ(ended.err, "");
}

}  // namespace
}  // namespace ballast
