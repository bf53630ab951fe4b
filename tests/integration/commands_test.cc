// The commands as a user meets them: the built program on the bundled model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/integration/served_model.h"

namespace ballast {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
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
  for (const char* command : {"serve", "generate", "inspect", "plan"}) {
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

int64_t WeightsBytes(const std::string& slots_per_rank) {
  const Finished inspected = Ballast(
      {"inspect", "--json", "--ranks", "4", "--slots-per-rank", slots_per_rank, kBundledModel});
  EXPECT_EQ(inspected.code, 0) << inspected.err;
  return nlohmann::json::parse(inspected.out)["weights_bytes"];
}

TEST(Commands, InspectCountsEverySlot) {
  const int64_t slot = WeightsBytes("9") - WeightsBytes("8");
  EXPECT_GE(slot, 5 * 3 * 192 * 64 * 2);  // in five layers
  EXPECT_EQ(WeightsBytes("16"), WeightsBytes("8") + 8 * slot);
}

TEST(Commands, InspectTellsARanksMemoryFromThatOfAll) {
  EXPECT_THAT(Ballast({"inspect", kBundledModel}).out, HasSubstr("MiB in all\n"));
  EXPECT_THAT(Ballast({"inspect", "--ranks", "4", "--kv-memory", "64MiB", kBundledModel}).out,
              HasSubstr("MiB on each rank, "));
}

TEST(Commands, PlanConvertsBetweenFormats) {
  const auto plan = [](std::vector<std::string> more) {
    more.insert(more.begin(), {"plan", kBundledModel, "--ranks", "4"});
    return Ballast(more);
  };
  const Finished even = plan({"--slots-per-rank", "9"});
  ASSERT_EQ(even.code, 0) << even.err;
  EXPECT_THAT(even.out, StartsWith("ranks: 4\nslots_per_rank: 9\nlayers:\n  1:\n    - [0, 1,"));
  std::string last = even.out;
  for (const char* format : {"tensorrt-llm", "sglang", "yaml"}) {
    const std::string path = testing::TempDir() + "placement_" + format;
    std::ofstream(path) << last;
    const Finished converted = plan({"--placement", path, "--format", format});
    ASSERT_EQ(converted.code, 0) << converted.err;
    EXPECT_EQ(converted.err, "");
    EXPECT_NE(converted.out, last);
    last = converted.out;
  }
  EXPECT_EQ(last, even.out);
}

TEST(Commands, PlanSaysWhatIsWrongWithAFile) {
  const std::string path = testing::TempDir() + "placement_wrong";
  std::ofstream(path) << "layers: {2: {pin: {40: 0}}}";
  const Finished wrong = Ballast({"plan", kBundledModel, "--placement", path});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_EQ(wrong.out, "");
  EXPECT_EQ(wrong.err, "ballast plan: " + path +
                           ": layer 2, pin: found 40, expected a whole number, 0 to 31\n");
  EXPECT_EQ(Ballast({"plan", kBundledModel, "--placement", "/nowhere"}).code, 1);
  EXPECT_EQ(Ballast({"plan", kBundledModel, "--ranks", "4", "--slots-per-rank", "1"}).code, 1);
}

TEST(Commands, ServeLogsWhatAPlacementLeavesOpen) {
  const std::string path = testing::TempDir() + "placement_partly";
  std::ofstream(path) << "num_slots: 32\ninitial_global_assignments: {9: [0]}";
  ServedModel server({"--ranks", "2", "--placement", path});
  EXPECT_NE(server.Generate({"--max-tokens", "4", "The experts"}).out, "");
  EXPECT_THAT(server.Stop(), HasSubstr("says nothing of layers 1, 2, 3, 4, 5"));
}

TEST(Commands, InspectRefusesWhatIsNoCheckpoint) {
  const Finished inspected = Ballast({"inspect", testing::TempDir()});
  EXPECT_EQ(inspected.code, 1);
  EXPECT_THAT(inspected.err, HasSubstr("config.json"));
}

TEST(Commands, InspectAndServeNameWhatIsWrongWithATokenizer) {
  const std::filesystem::path folder = testing::TempDir() + "broken_tokenizer";
  std::filesystem::create_directories(folder);
  constexpr auto kReplace = std::filesystem::copy_options::overwrite_existing;
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::filesystem::copy_file(std::filesystem::path(kBundledModel) / name, folder / name,
                               kReplace);
  }
  std::ofstream(folder / "tokenizer.json") << "{\"model\": {\"type\": \"WordPiece\"}}";
  const Finished inspected = Ballast({"inspect", "--json", folder});
  ASSERT_EQ(inspected.code, 0) << inspected.err;
  const std::string unsupported = nlohmann::json::parse(inspected.out)["unsupported"].dump();
  EXPECT_THAT(unsupported, HasSubstr("tokenizer.json"));
  const Finished served = Ballast({"serve", folder});
  EXPECT_EQ(served.code, 1);
  EXPECT_THAT(served.err, HasSubstr("tokenizer.json"));
  EXPECT_THAT(served.err, Not(HasSubstr("listening")));
  std::filesystem::remove_all(folder);
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

TEST(Commands, AnAnswerThatCannotBeWrittenIsAFailure) {
  const ServedModel server;
  for (const char* how : {"--json", "--seed=1"}) {
    std::vector<std::string> command = server.GenerateCommand({how, "--max-tokens", "4", "x"});
    command.insert(command.begin(), {"/bin/sh", "-c", "exec \"$0\" \"$@\" > /dev/full"});
    EXPECT_EQ(RunProgram(command).code, 1) << how;
  }
}

// The built program with a full disk behind its stdout.
Finished BallastIntoNothing(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(),
                   {"/bin/sh", "-c", "exec \"$0\" \"$@\" > /dev/full", BALLAST_PROGRAM});
  return RunProgram(arguments);
}

TEST(Commands, OutputThatCannotBeWrittenIsAFailure) {
  const ServedModel server;
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"inspect", kBundledModel},
        {"plan", kBundledModel},
        {"top", "--once", "--server", server.grpc()}}) {
    const Finished lost = BallastIntoNothing(command);
    EXPECT_EQ(lost.code, 1) << command.front();
    EXPECT_THAT(lost.err, HasSubstr("stdout: ")) << command.front();
  }
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
