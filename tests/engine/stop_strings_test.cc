#include "engine/stop_strings.h"

#include <random>

#include "gtest/gtest.h"

namespace ballast {
namespace {

// What Append and Flush say together, in the pieces given.
struct Outcome {
  std::string text;
  int match = -1;

  bool operator==(const Outcome&) const = default;
};

Outcome Feed(StopStrings& stop, const std::vector<std::string>& pieces) {
  Outcome outcome;
  for (const std::string& piece : pieces) {
    const StopStrings::Found found = stop.Append(piece);
    outcome.text += found.text;
    if (found.match >= 0) {
      outcome.match = found.match;
      return outcome;
    }
  }
  outcome.text += stop.Flush();
  return outcome;
}

TEST(StopStrings, WithNoneTextPassesStraightThrough) {
  StopStrings stop({}, false);
  const StopStrings::Found found = stop.Append("any text");
  EXPECT_EQ(found.text, "any text");
  EXPECT_EQ(found.match, -1);
  EXPECT_EQ(stop.Flush(), "");
}

TEST(StopStrings, HoldsBackWhatMayBeginAStopString) {
  StopStrings stop({"END"}, false);
  EXPECT_EQ(stop.Append("the E").text, "the ");
  EXPECT_EQ(stop.Append("N").text, "");
  EXPECT_EQ(stop.Append("EN").text, "EN");
  EXPECT_EQ(stop.Flush(), "EN");
  EXPECT_EQ(stop.Flush(), "");
}

TEST(StopStrings, FindsAStopStringAcrossPieces) {
  StopStrings stop({"never", "END"}, false);
  EXPECT_EQ(stop.Append("the E").match, -1);
  EXPECT_EQ(stop.Append("N").match, -1);
  const StopStrings::Found found = stop.Append("D of it");
  EXPECT_EQ(found.text, "");
  EXPECT_EQ(found.match, 1);
}

TEST(StopStrings, SaysNothingAfterAMatch) {
  StopStrings stop({"x"}, false);
  EXPECT_EQ(stop.Append("axb").match, 0);
  EXPECT_EQ(stop.Append("cxd").text, "");
  EXPECT_EQ(stop.Append("x").match, -1);
  EXPECT_EQ(stop.Flush(), "");
}

TEST(StopStrings, IncludesTheStopStringWhenAsked) {
  StopStrings stop({"END"}, true);
  EXPECT_EQ(stop.Append("the E").text, "the ");
  const StopStrings::Found found = stop.Append("NDs");
  EXPECT_EQ(found.text, "END");
  EXPECT_EQ(found.match, 0);
}

TEST(StopStrings, TheEarliestEndWinsThenTheEarliestBeginning) {
  StopStrings ends_first({"abcd", "bc"}, false);
  EXPECT_EQ(Feed(ends_first, {"xabcd"}), (Outcome{"xa", 1}));
  StopStrings begins_first({"c", "bc", "abc"}, false);
  EXPECT_EQ(Feed(begins_first, {"xabc"}), (Outcome{"x", 2}));
  StopStrings twice({"ab", "ab"}, false);
  EXPECT_EQ(Feed(twice, {"ab"}), (Outcome{"", 0}));
}

TEST(StopStrings, NeverCutsACharacter) {
  // Both begin with the byte C3.
  StopStrings stop({"\u00E9!"}, false);
  EXPECT_EQ(stop.Append("\u00E8").text, "\u00E8");
  EXPECT_EQ(stop.Append("\u00E9").text, "");
  EXPECT_EQ(stop.Append("?").text, "\u00E9?");
}

TEST(StopStrings, TakesTheLongestStopStringsThere) {
  std::vector<std::string> stop;
  for (int i = 10; i < 74; ++i) {
    stop.push_back(std::string(1022, 'a') + std::to_string(i));
  }
  StopStrings found(stop, false);
  std::vector<std::string> pieces(500, "aaaa");
  pieces.push_back("1");
  pieces.push_back("7");
  EXPECT_EQ(Feed(found, pieces), (Outcome{std::string(2000 - 1022, 'a'), 7}));
}

Outcome FindNaively(const std::vector<std::string>& stop, bool include_stop,
                    const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    Outcome best;
    size_t longest = 0;
    for (size_t i = 0; i < stop.size(); ++i) {
      if (stop[i].size() > longest && std::string_view(text).substr(0, end).ends_with(stop[i])) {
        longest = stop[i].size();
        best = {text.substr(0, include_stop ? end : end - longest), static_cast<int>(i)};
      }
    }
    if (best.match >= 0) {
      return best;
    }
  }
  return {text, -1};
}

TEST(StopStrings, AgreesWithASearchOfTheWholeTextAtRandomSplits) {
  std::mt19937 random(11);
  const auto random_text = [&random](size_t length) {
    std::string text;
    for (size_t i = 0; i < length; ++i) {
      text += static_cast<char>('a' + random() % 2);
    }
    return text;
  };
  int matches = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stop;
    for (size_t i = random() % 4; i > 0; --i) {
      stop.push_back(random_text(3 + random() % 6));
    }
    const bool include_stop = random() % 2 == 0;
    const std::string text = random_text(random() % 40);
    std::vector<std::string> pieces;
    for (size_t begin = 0; begin < text.size();) {
      const size_t length = random() % 5;
      pieces.push_back(text.substr(begin, length));
      begin += length;
    }
    StopStrings found(stop, include_stop);
    const Outcome expected = FindNaively(stop, include_stop, text);
    ASSERT_EQ(Feed(found, pieces), expected) << text;
    matches += expected.match >= 0 ? 1 : 0;
  }
  EXPECT_GT(matches, 4000);
  EXPECT_LT(matches, 16000);
}

TEST(StopStrings, HoldsBackNoMoreThanItMust) {
  std::mt19937 random(12);
  for (int round = 0; round < 2000; ++round) {
    const std::vector<std::string> stop = {"abab" + std::string(1 + random() % 3, 'c'), "bb"};
    StopStrings found(stop, false);
    std::string fed;
    std::string emitted;
    for (int piece = 0; piece < 20; ++piece) {
      const std::string next(1, "abc"[random() % 3]);
      const StopStrings::Found part = found.Append(next);
      fed += next;
      emitted += part.text;
      if (part.match >= 0) {
        break;
      }
      size_t held = 0;
      for (const std::string& text : stop) {
        for (size_t length = 1; length < text.size(); ++length) {
          if (fed.ends_with(text.substr(0, length))) {
            held = std::max(held, length);
          }
        }
      }
      ASSERT_EQ(emitted, fed.substr(0, fed.size() - held));
    }
  }
}

}  // namespace
}  // namespace ballast
