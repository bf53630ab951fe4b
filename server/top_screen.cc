#include "server/top_screen.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ballast {
namespace {

// Rows of an expert over the mean of its layer's experts, from which on a cell has the next level.
constexpr std::array<double, 8> kLevels = {1e-9, 0.25, 0.5, 0.8, 1.25, 2, 3, 5};
constexpr std::array<std::string_view, 9> kBlocks = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr std::array<std::string_view, 9> kSigns = {" ", ".", ":", "-", "=", "+", "*", "#", "@"};
// Of 256: from blue over green, the mean, to red.
constexpr std::array<int, 9> kHeat = {238, 24, 31, 37, 71, 148, 214, 202, 196};
constexpr int kTitleColor = 250;
constexpr int kWarnColor = 202;
constexpr int kMaxCell = 4;  // places of an expert on a wide screen

// A line of characters of one place each, with colours.
class Line {
 public:
  explicit Line(const Screen& screen) : screen_(screen) {}

  Line& Text(std::string_view text, int color = -1) {
    for (const char c : text) {
      const char shown = absl::ascii_isprint(static_cast<unsigned char>(c)) ? c : '?';
      Place(std::string_view(&shown, 1), color);
    }
    return *this;
  }

  Line& Level(double level, int places) {
    const auto above = std::upper_bound(kLevels.begin(), kLevels.end(), level);
    const auto index = static_cast<size_t>(above - kLevels.begin());
    for (int i = 0; i < places; ++i) {
      Place(screen_.unicode ? kBlocks[index] : kSigns[index], kHeat[index]);
    }
    return *this;
  }

  // A bar of so many places, full or not.
  Line& Bar(double share, int places, int color) {
    const auto full = static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * places));
    for (int i = 0; i < places; ++i) {
      const bool on = i < full;
      Place(screen_.unicode ? (on ? "█" : "░") : (on ? "#" : "."), on ? color : kHeat[0]);
    }
    return *this;
  }

  std::string End() {
    if (color_ != -1) text_ += "\x1b[0m";
    return std::move(text_);
  }

 private:
  void Place(std::string_view glyph, int color) {
    if (places_ >= screen_.columns) return;
    ++places_;
    if (screen_.colors && color != color_) {
      text_ += color == -1 ? "\x1b[0m" : absl::StrCat("\x1b[38;5;", color, "m");
      color_ = color;
    }
    text_ += glyph;
  }

  const Screen& screen_;
  std::string text_;
  int places_ = 0;
  int color_ = -1;
};

// Shares `count` things among groups of equal size, so that there are at most `room` groups.
struct Groups {
  Groups(int things, int room)
      : count(things), size(room < 1 ? count : std::max(1, (count + room - 1) / room)) {}

  int groups() const { return size == 0 ? 0 : (count + size - 1) / size; }
  int begin(int group) const { return group * size; }
  int end(int group) const { return std::min(count, (group + 1) * size); }

  int count;
  int size;
};

double SpeedOf(const v1::ExpertLoad& load, int rank) {
  const double speed = rank < load.rank_speed_size() ? load.rank_speed(rank) : 1;
  return speed > 0 ? speed : 1;
}

int RanksOf(const v1::ExpertLoad& load) {
  return load.layers().empty() ? 0 : load.layers(0).rank_rows_size();
}

double Sum(std::span<const double> numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), 0.0);
}

double MaxOverMean(std::span<const double> numbers) {
  const double sum = Sum(numbers);
  if (sum <= 0) return 1;
  return *std::max_element(numbers.begin(), numbers.end()) * static_cast<double>(numbers.size()) /
         sum;
}

std::vector<double> RankTimes(const v1::LayerLoad& layer, const v1::ExpertLoad& load) {
  std::vector<double> times;
  for (int rank = 0; rank < layer.rank_rows_size(); ++rank) {
    times.push_back(static_cast<double>(layer.rank_rows(rank)) / SpeedOf(load, rank));
  }
  return times;
}

struct Hottest {
  uint32_t layer = 0;
  int expert = 0;
  double over_mean = 0;
};

Hottest FindHottest(const v1::ExpertLoad& load) {
  Hottest hottest;
  for (const v1::LayerLoad& layer : load.layers()) {
    const auto& rows = layer.expert_rows();
    const std::vector<double> numbers(rows.begin(), rows.end());
    const double over_mean = Sum(numbers) > 0 ? MaxOverMean(numbers) : 0;
    if (over_mean <= hottest.over_mean) continue;
    const auto at = std::max_element(numbers.begin(), numbers.end());
    hottest = {layer.layer(), static_cast<int>(at - numbers.begin()), over_mean};
  }
  return hottest;
}

void AddSummary(const TopView& view, const Screen& screen, std::vector<std::string>& lines) {
  const v1::ExpertLoad& load = view.load;
  const double seconds = std::max(load.window_s(), 1e-9);
  lines.push_back(Line(screen).Text("ballast top  ").Text(view.title, kTitleColor).End());
  lines.push_back(
      Line(screen)
          .Text(absl::StrFormat("placement %d  moves %d  balance %s%s  |  %.0f tokens/s  "
                                "%.0f steps/s  over %.1f s",
                                load.placement_version(), view.watched_moves, load.mode(),
                                load.paused() ? " (paused)" : "",
                                static_cast<double>(load.tokens()) / seconds,
                                static_cast<double>(load.steps()) / seconds, load.window_s()))
          .End());
  if (load.tokens() == 0) {
    lines.push_back(Line(screen).Text("no load").End());
    return;
  }
  double worst = 0;
  uint32_t worst_layer = 0;
  for (const v1::LayerLoad& layer : load.layers()) {
    const double imbalance = Imbalance(layer, load);
    if (imbalance > worst) worst_layer = layer.layer();
    worst = std::max(worst, imbalance);
  }
  const Hottest hottest = FindHottest(load);
  Line line(screen);
  line.Text(absl::StrFormat(
      "imbalance %.2f, layer %d %.2f  |  hottest: layer %d expert %d, "
      "%.1fx the mean  |  straggler ",
      Imbalance(load), worst_layer, worst, hottest.layer, hottest.expert, hottest.over_mean));
  const std::optional<int> straggler = Straggler(load);
  if (straggler) {
    line.Text(absl::StrCat("rank ", *straggler), kWarnColor);
  } else {
    line.Text("none");
  }
  lines.push_back(line.End());
}

// Rows of each rank over all layers.
std::vector<double> RankRows(const v1::ExpertLoad& load) {
  std::vector<double> rows(static_cast<size_t>(RanksOf(load)));
  for (const v1::LayerLoad& layer : load.layers()) {
    for (int rank = 0; rank < std::min(RanksOf(load), layer.rank_rows_size()); ++rank) {
      rows[static_cast<size_t>(rank)] += static_cast<double>(layer.rank_rows(rank));
    }
  }
  return rows;
}

std::string RankLine(const v1::ExpertLoad& load, int rank, double rows, double mean, double most,
                     const Screen& screen) {
  constexpr int kBar = 20;
  const bool straggles = Straggler(load) == rank;
  const double over_mean = mean > 0 ? rows / mean : 1;
  Line line(screen);
  line.Text(absl::StrFormat("%4d  %10.0f  %6.2f  ", rank, rows / std::max(load.window_s(), 1e-9),
                            over_mean))
      .Bar(most > 0 ? rows / most : 0, kBar, straggles ? kWarnColor : kHeat[4]);
  line.Text(rank < load.rank_speed_size() ? absl::StrFormat("  %5.2f", load.rank_speed(rank))
                                          : "      -");
  if (rank < load.rank_wait_s_size() && load.window_s() > 0) {
    line.Text(absl::StrFormat("  %5.1f%%", 100 * load.rank_wait_s(rank) / load.window_s()));
  } else {
    line.Text("       -");
  }
  if (straggles) line.Text("  straggler", kWarnColor);
  return line.End();
}

// At most `room` lines with the head: the busiest ranks where not all find a place.
void AddRanks(const v1::ExpertLoad& load, const Screen& screen, int room,
              std::vector<std::string>& lines) {
  const std::vector<double> rows = RankRows(load);
  const int ranks = static_cast<int>(rows.size());
  if (ranks == 0 || room < 2) return;
  lines.push_back(
      Line(screen)
          .Text("rank      rows/s  x mean  share of the busiest  speed    wait", kTitleColor)
          .End());
  std::vector<int> shown(rows.size());
  std::iota(shown.begin(), shown.end(), 0);
  const bool all = ranks <= room - 1;
  if (!all) {
    std::stable_sort(shown.begin(), shown.end(), [&](int a, int b) {
      return rows[static_cast<size_t>(a)] > rows[static_cast<size_t>(b)];
    });
    shown.resize(static_cast<size_t>(std::max(1, room - 2)));
  }
  const double mean = Sum(rows) / ranks;
  const double most = *std::max_element(rows.begin(), rows.end());
  for (const int rank : shown) {
    lines.push_back(RankLine(load, rank, rows[static_cast<size_t>(rank)], mean, most, screen));
  }
  if (!all && room > 2) {
    lines.push_back(
        Line(screen)
            .Text(absl::StrFormat("      and %d ranks with fewer rows", ranks - shown.size()))
            .End());
  }
}

// The busiest of a block of the map, over the mean of its layer.
double BusiestOf(const v1::ExpertLoad& load, const Groups& layers, int layer_group,
                 const Groups& experts, int expert_group) {
  double busiest = 0;
  for (int l = layers.begin(layer_group); l < layers.end(layer_group); ++l) {
    const auto& rows = load.layers(l).expert_rows();
    const double sum = std::accumulate(rows.begin(), rows.end(), 0.0);
    if (sum <= 0) continue;
    for (int e = experts.begin(expert_group); e < std::min(experts.end(expert_group), rows.size());
         ++e) {
      busiest = std::max(busiest, static_cast<double>(rows[e]) * rows.size() / sum);
    }
  }
  return busiest;
}

std::string LegendLine(const Screen& screen) {
  Line line(screen);
  line.Text("rows of an expert, the mean of its layer being 1:", kTitleColor);
  constexpr std::array<const char*, 8> kFrom = {"0", "0.25", "0.5", "0.8", "1.25", "2", "3", "5"};
  for (size_t i = 0; i < kFrom.size(); ++i) {
    line.Text("  ").Level(kLevels[i], 1).Text(absl::StrCat(" >", kFrom[i]));
  }
  return line.End();
}

// At most `room` lines, head and legend among them; 0: as many as it takes.
void AddMap(const v1::ExpertLoad& load, const Screen& screen, int room,
            std::vector<std::string>& lines) {
  constexpr int kLabel = 16;  // "  3-5      1.08  "
  const int count = load.layers_size();
  if (count == 0 || room == 1 || room == 2) return;
  const bool legend = room == 0 || room > 3;
  const Groups layers(count, room == 0 ? count : room - (legend ? 2 : 1));
  const int width = std::max(1, screen.columns - kLabel);
  const int expert_count = load.layers(0).expert_rows_size();
  const Groups experts(expert_count, width);
  const int places = experts.groups() == 0 ? 1 : std::clamp(width / experts.groups(), 1, kMaxCell);
  std::string head = absl::StrFormat("layer   max/mean  experts 0 to %d", expert_count - 1);
  if (experts.size > 1) absl::StrAppend(&head, ", the busiest of ", experts.size, " in a place");
  if (layers.size > 1) absl::StrAppend(&head, ", of ", layers.size, " layers in a line");
  lines.push_back(Line(screen).Text(head, kTitleColor).End());
  for (int group = 0; group < layers.groups(); ++group) {
    const v1::LayerLoad& first = load.layers(layers.begin(group));
    const v1::LayerLoad& last = load.layers(layers.end(group) - 1);
    std::string label = absl::StrCat(first.layer());
    if (first.layer() != last.layer()) absl::StrAppend(&label, "-", last.layer());
    double imbalance = 1;
    for (int l = layers.begin(group); l < layers.end(group); ++l) {
      imbalance = std::max(imbalance, Imbalance(load.layers(l), load));
    }
    Line line(screen);
    line.Text(absl::StrFormat("%-8s%6.2f  ", label, imbalance));
    for (int e = 0; e < experts.groups(); ++e) {
      line.Level(BusiestOf(load, layers, group, experts, e), places);
    }
    lines.push_back(line.End());
  }
  if (legend) lines.push_back(LegendLine(screen));
}

}  // namespace

double Imbalance(const v1::LayerLoad& layer, const v1::ExpertLoad& load) {
  return MaxOverMean(RankTimes(layer, load));
}

double Imbalance(const v1::ExpertLoad& load) {
  double longest = 0;
  double mean = 0;
  for (const v1::LayerLoad& layer : load.layers()) {
    const std::vector<double> times = RankTimes(layer, load);
    if (times.empty()) continue;
    longest += *std::max_element(times.begin(), times.end());
    mean += Sum(times) / static_cast<double>(times.size());
  }
  return mean > 0 ? longest / mean : 1;
}

std::optional<int> Straggler(const v1::ExpertLoad& load) {
  const int ranks = RanksOf(load);
  if (ranks < 2) return std::nullopt;
  if (load.rank_wait_s_size() == ranks) {
    const std::vector<double> waits(load.rank_wait_s().begin(), load.rank_wait_s().end());
    const auto least = std::min_element(waits.begin(), waits.end());
    const double others = (Sum(waits) - *least) / (ranks - 1);
    if (others >= 0.01 * load.window_s() && *least < 0.5 * others) {
      return static_cast<int>(least - waits.begin());
    }
  }
  if (load.rank_speed_size() == ranks) {
    const auto& speeds = load.rank_speed();
    const auto slowest = std::min_element(speeds.begin(), speeds.end());
    if (*slowest < 0.9 * *std::max_element(speeds.begin(), speeds.end())) {
      return static_cast<int>(slowest - speeds.begin());
    }
  }
  return std::nullopt;
}

std::vector<std::string> RenderTop(const TopView& view, const Screen& screen) {
  std::vector<std::string> lines;
  AddSummary(view, screen, lines);
  const bool endless = screen.rows == 0;
  const auto left = [&] { return screen.rows - static_cast<int>(lines.size()); };
  const int ranks = RanksOf(view.load);
  if (endless || left() >= 6) {
    lines.emplace_back();
    AddRanks(view.load, screen, endless ? ranks + 1 : std::min(ranks + 1, left() / 2), lines);
    lines.emplace_back();
  }
  if (endless || left() > 0) AddMap(view.load, screen, endless ? 0 : left(), lines);
  if (!endless) lines.resize(std::min(lines.size(), static_cast<size_t>(screen.rows)));
  return lines;
}

}  // namespace ballast
