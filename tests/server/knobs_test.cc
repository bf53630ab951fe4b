#include "server/knobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ballast {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Toy {
  std::string input;
  int width = 3;
  bool loud = false;
  std::vector<std::string> words;
  std::optional<int> rank;

  std::vector<Knob> Knobs() {
    Knob positional = TextKnob("input", "INPUT", &input, "What goes in");
    positional.positional = true;
    return {std::move(positional), CountKnob("line-width", 1, 10, &width, "How wide"),
            SwitchKnob("loud", &loud, "Shout"), ListKnob("word", "TEXT", &words, "A word"),
            OptionalCountKnob("rank", -1, 5, &rank, "Which rank")};
  }
  absl::StatusOr<std::optional<std::string>> Read(const std::vector<std::string>& arguments) {
    return ReadArguments({"toy", "A toy.", "Examples: none"}, Knobs(), arguments);
  }
  std::string Error(const std::vector<std::string>& arguments) {
    return std::string(Read(arguments).status().message());
  }
  std::string YamlError(const std::string& yaml) {
    return std::string(ReadYaml(yaml, "toy.yaml", Knobs()).message());
  }
};

TEST(Knobs, FlagsSetTheirVariables) {
  Toy toy;
  ASSERT_TRUE(toy.Read({"--line-width", "7", "--loud", "in", "--rank", "-1"}).ok());
  EXPECT_EQ(toy.width, 7);
  EXPECT_TRUE(toy.loud);
  EXPECT_EQ(toy.input, "in");
  EXPECT_EQ(toy.rank, -1);
}

TEST(Knobs, TheLastOfAFlagGivenTwiceCounts) {
  Toy toy;
  ASSERT_TRUE(toy.Read({"--line-width=7", "--line-width", "8"}).ok());
  EXPECT_EQ(toy.width, 8);
}

TEST(Knobs, ListsKeepEveryValueAsWritten) {
  Toy toy;
  ASSERT_TRUE(toy.Read({"--word", "a", "--word", "[b,c]", "--word", "--x"}).ok());
  EXPECT_THAT(toy.words, ElementsAre("a", "[b,c]", "--x"));
}

TEST(Knobs, WhatFollowsTwoDashesIsNoFlag) {
  Toy toy;
  ASSERT_TRUE(toy.Read({"--loud", "--", "--line-width"}).ok());
  EXPECT_EQ(toy.input, "--line-width");
  Toy dash;
  ASSERT_TRUE(dash.Read({"-"}).ok());
  EXPECT_EQ(dash.input, "-");
}

TEST(Knobs, UnknownFlagsNameTheNearest) {
  EXPECT_EQ(Toy().Error({"--line-widht", "7"}),
            "unknown option '--line-widht', did you mean '--line-width'?");
  EXPECT_EQ(Toy().Error({"--louder=1"}), "unknown option '--louder', did you mean '--loud'?");
  EXPECT_EQ(Toy().Error({"--completely-else"}), "unknown option '--completely-else'");
  EXPECT_EQ(Toy().Error({"one", "two"}), "unexpected argument 'two'");
}

TEST(Knobs, BadValuesNameOptionFoundAndExpected) {
  EXPECT_EQ(Toy().Error({"--line-width", "11"}),
            "--line-width: found '11', expected a whole number, 1 to 10");
  EXPECT_EQ(Toy().Error({"--line-width", "2.5"}),
            "--line-width: found '2.5', expected a whole number, 1 to 10");
  EXPECT_THAT(Toy().Error({"--line-width"}), HasSubstr("--line-width"));
  EXPECT_NE(Toy().Error({"--loud=perhaps"}), "");
}

TEST(Knobs, HelpComesFromTheTable) {
  Toy toy;
  const auto help = toy.Read({"--help"});
  ASSERT_TRUE(help.ok() && help->has_value());
  EXPECT_THAT(**help,
              AllOf(HasSubstr("A toy."), HasSubstr("--line-width N"), HasSubstr("How wide"),
                    HasSubstr("1 to 10 [3]"), HasSubstr("Examples: none"), HasSubstr("INPUT")));
}

TEST(Knobs, YamlKeysTakeDashesAndUnderscores) {
  Toy toy;
  ASSERT_TRUE(ReadYaml("line_width: 4\nloud: true\n", "f", toy.Knobs()).ok());
  EXPECT_EQ(toy.width, 4);
  EXPECT_TRUE(toy.loud);
  ASSERT_TRUE(ReadYaml("line-width: 5\n", "f", toy.Knobs()).ok());
  EXPECT_EQ(toy.width, 5);
  EXPECT_TRUE(ReadYaml("", "f", toy.Knobs()).ok());
}

TEST(Knobs, YamlErrorsNameFileLineAndKey) {
  EXPECT_EQ(Toy().YamlError("loud: true\nline_widht: 4\n"),
            "toy.yaml:2: unknown key 'line_widht', did you mean 'line-width'?");
  EXPECT_EQ(Toy().YamlError("line_width: 40\n"),
            "toy.yaml:1: line_width: found '40', expected a whole number, 1 to 10");
  EXPECT_EQ(Toy().YamlError("line_width: 4\nline-width: 4\n"),
            "toy.yaml:2: line-width: found twice, expected once");
  EXPECT_EQ(Toy().YamlError("line_width: [4]\n"),
            "toy.yaml:1: line_width: found a list or a map, expected one value");
  EXPECT_EQ(Toy().YamlError("line_width:\n"),
            "toy.yaml:1: line_width: found nothing, expected one value");
  EXPECT_THAT(Toy().YamlError("- 4\n"), HasSubstr("expected a map of options"));
  EXPECT_THAT(Toy().YamlError("a: b: c\n"), HasSubstr("toy.yaml:1: not YAML"));
  EXPECT_THAT(Toy().YamlError("[x]: 1\n"), HasSubstr("key that is not a name"));
  EXPECT_NE(Toy().YamlError(std::string(100'000, '[')), "");
}

}  // namespace
}  // namespace ballast
