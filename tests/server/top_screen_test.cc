#include "server/top_screen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace ballast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

v1::ExpertLoad EvenLoad(int layers, int experts, int ranks, uint64_t rows = 100) {
  v1::ExpertLoad load;
  load.set_placement_version(3);
  load.set_steps(50);
  load.set_tokens(1000);
  load.set_window_s(2);
  load.set_mode("full");
  for (int l = 0; l < layers; ++l) {
    v1::LayerLoad& layer = *load.add_layers();
    layer.set_layer(static_cast<uint32_t>(l + 1));
    for (int e = 0; e < experts; ++e) layer.add_expert_rows(rows);
    for (int r = 0; r < ranks; ++r) layer.add_rank_rows(rows * experts / ranks);
  }
  return load;
}

TopView View(v1::ExpertLoad load) { return {"mini  127.0.0.1:7000", std::move(load), 5}; }

// Places that a line takes: bytes that begin a character, escapes left out.
int Places(const std::string& line) {
  int places = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\x1b') {
      i = line.find('m', i);
    } else if ((static_cast<unsigned char>(line[i]) & 0xC0) != 0x80) {
      ++places;
    }
  }
  return places;
}

std::string Joined(const std::vector<std::string>& lines) { return absl::StrJoin(lines, "\n"); }

std::string LineOf(const std::vector<std::string>& lines, const std::string& begin) {
  for (const std::string& line : lines) {
    if (absl::StartsWith(line, begin)) return line;
  }
  return "";
}

TEST(TopScreen, ASmallModelIsShownWhole) {
  v1::ExpertLoad load = EvenLoad(2, 4, 2);
  load.mutable_layers(1)->set_expert_rows(0, 0);
  load.mutable_layers(1)->set_expert_rows(3, 1600);
  load.mutable_layers(1)->set_rank_rows(0, 300);
  load.mutable_layers(1)->set_rank_rows(1, 100);
  load.add_rank_speed(1);
  load.add_rank_speed(1);
  load.add_rank_wait_s(0.5);
  load.add_rank_wait_s(0.5);
  EXPECT_THAT(
      RenderTop(View(load), {.columns = 120}),
      ElementsAre(
          "ballast top  mini  127.0.0.1:7000",
          "placement 3  moves 5  balance full  |  500 tokens/s  25 steps/s  over 2.0 s",
          "imbalance 1.25, layer 2 1.50  |  hottest: layer 2 expert 3, 3.6x the mean  |  straggler "
          "none",
          "", "rank      rows/s  x mean  share of the busiest  speed    wait",
          "   0         250    1.25  ####################   1.00   25.0%",
          "   1         150    0.75  ############........   1.00   25.0%", "",
          "layer   max/mean  experts 0 to 3",
          "1         1.00  ================", "2         1.50      ........####",
          "rows of an expert, the mean of its layer being 1:  . >0  : >0.25  - >0.5  = >0.8  + "
          ">1.25  * >2  # >3  @ >5"));
}

TEST(TopScreen, UnicodeAndColorsFollowTheScreen) {
  const TopView view = View(EvenLoad(1, 4, 2));
  const std::string plain = Joined(RenderTop(view, {.columns = 100}));
  for (const char c : plain) EXPECT_TRUE(c == '\n' || (c >= ' ' && c <= '~')) << int{c};
  const std::string blocks = Joined(RenderTop(view, {.columns = 100, .unicode = true}));
  EXPECT_THAT(blocks, HasSubstr("▄▄▄▄"));
  EXPECT_THAT(blocks, Not(HasSubstr("\x1b")));
  const std::string colored =
      Joined(RenderTop(view, {.columns = 100, .unicode = true, .colors = true}));
  EXPECT_THAT(colored, HasSubstr("\x1b[38;5;71m▄▄▄▄"));
  for (const std::string& line :
       RenderTop(view, {.columns = 100, .unicode = true, .colors = true})) {
    const size_t last = line.rfind('\x1b');
    if (last != std::string::npos) {
      EXPECT_EQ(line.substr(last, 4), "\x1b[0m") << line;
    }
  }
}

TEST(TopScreen, EveryScreenIsKeptTo) {
  for (const auto& [layers, experts, ranks] :
       {std::tuple(58, 256, 64), std::tuple(5, 32, 4), std::tuple(1, 8, 1), std::tuple(0, 0, 0)}) {
    const TopView view = View(EvenLoad(layers, experts, ranks));
    for (const int columns : {1, 7, 17, 40, 80, 132, 300}) {
      for (const int rows : {1, 2, 3, 4, 6, 10, 24, 50, 200}) {
        const std::vector<std::string> lines =
            RenderTop(view, {columns, rows, /*unicode=*/true, /*colors=*/true});
        EXPECT_LE(lines.size(), static_cast<size_t>(rows));
        for (const std::string& line : lines) EXPECT_LE(Places(line), columns) << line;
      }
    }
  }
}

TEST(TopScreen, ExpertsThatShareAPlaceShowTheBusiest) {
  v1::ExpertLoad load = EvenLoad(2, 256, 1);
  load.mutable_layers(0)->set_expert_rows(100, 100000);
  const std::vector<std::string> lines = RenderTop(View(load), {.columns = 80});
  const std::string line = LineOf(lines, "1   ");
  EXPECT_THAT(Joined(lines), HasSubstr("experts 0 to 255, the busiest of 4 in a place"));
  EXPECT_EQ(line.find('@'), 16u + 100 / 4) << line;
  EXPECT_EQ(line.rfind('@'), 16u + 100 / 4) << line;
  EXPECT_EQ(Places(line), 16 + 64);
}

TEST(TopScreen, LayersThatShareALineShowTheBusiest) {
  v1::ExpertLoad load = EvenLoad(58, 8, 4);
  load.mutable_layers(40)->set_expert_rows(2, 100000);
  load.mutable_layers(40)->set_rank_rows(1, 100000);
  const std::vector<std::string> lines = RenderTop(View(load), {.columns = 80, .rows = 24});
  EXPECT_EQ(lines.size(), 24u);
  EXPECT_THAT(Joined(lines), HasSubstr("of 5 layers in a line"));
  const std::string line = LineOf(lines, "41-45");
  EXPECT_THAT(line, HasSubstr("@@@@"));
  EXPECT_THAT(line, Not(HasSubstr("41-45     1.00")));
  EXPECT_THAT(LineOf(lines, "36-40"), HasSubstr("36-40     1.00"));
}

TEST(TopScreen, RanksBeyondTheScreenAreCountedAndTheBusiestShown) {
  v1::ExpertLoad load = EvenLoad(2, 64, 64);
  load.mutable_layers(0)->set_rank_rows(33, 5000);
  const std::vector<std::string> lines = RenderTop(View(load), {.columns = 100, .rows = 30});
  EXPECT_NE(LineOf(lines, "  33 "), "");
  EXPECT_THAT(Joined(lines), HasSubstr("and 53 ranks with fewer rows"));
}

TEST(TopScreen, AnIdleServerHasNoLoad) {
  v1::ExpertLoad load = EvenLoad(2, 4, 2, 0);
  load.set_tokens(0);
  const std::string page = Joined(RenderTop(View(load), {.columns = 100}));
  EXPECT_THAT(page, HasSubstr("no load"));
  EXPECT_THAT(page, Not(HasSubstr("nan")));
  load.set_paused(true);
  load.set_window_s(0);
  EXPECT_THAT(Joined(RenderTop(View(load), {})), HasSubstr("balance full (paused)"));
}

TEST(TopScreen, NamesCannotSpeakToTheTerminal) {
  const TopView view = {"evil\x1b[2J\n\xff", EvenLoad(1, 4, 2), 0};
  EXPECT_EQ(RenderTop(view, {})[0], "ballast top  evil?[2J??");
}

TEST(TopScreen, ImbalanceIsOfTimeWhereSpeedsAreKnown) {
  v1::ExpertLoad load = EvenLoad(1, 4, 2);
  load.mutable_layers(0)->set_rank_rows(0, 300);
  load.mutable_layers(0)->set_rank_rows(1, 100);
  EXPECT_DOUBLE_EQ(Imbalance(load), 1.5);
  // The slow rank has the fewer rows: that is balance.
  load.add_rank_speed(1);
  load.add_rank_speed(1.0 / 3);
  EXPECT_NEAR(Imbalance(load), 1, 1e-12);
  EXPECT_NEAR(Imbalance(load.layers(0), load), 1, 1e-12);
  EXPECT_EQ(Imbalance(v1::ExpertLoad()), 1);
}

TEST(TopScreen, TheStragglerIsTheOneThatOthersWaitFor) {
  v1::ExpertLoad load = EvenLoad(1, 4, 4);
  EXPECT_EQ(Straggler(load), std::nullopt);
  for (const double wait : {0.5, 0.6, 0.1, 0.5}) load.add_rank_wait_s(wait);
  EXPECT_EQ(Straggler(load), 2);
  load.set_rank_wait_s(2, 0.4);
  EXPECT_EQ(Straggler(load), std::nullopt);
  for (const double speed : {1.0, 0.5, 0.9, 1.0}) load.add_rank_speed(speed);
  EXPECT_EQ(Straggler(load), 1);
  // Waits that are nothing against the window.
  load.set_window_s(1000);
  load.set_rank_wait_s(2, 0);
  load.set_rank_speed(1, 0.95);
  EXPECT_EQ(Straggler(load), std::nullopt);
  EXPECT_EQ(Straggler(EvenLoad(1, 4, 1)), std::nullopt);
}

}  // namespace
}  // namespace ballast
