// What `ballast top` shows: a heat map of layers x experts, ranks, and what is out of balance. Pure
// functions of a load and a screen.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ballast/v1/expert_admin.pb.h"

namespace ballast {

struct Screen {
  int columns = 120;
  int rows = 0;  // 0: as many as it takes
  bool unicode = false;
  bool colors = false;  // of 256
};

struct TopView {
  std::string title;           // model and address; what is no printable ASCII is shown as '?'
  v1::ExpertLoad load;         // of the last interval
  uint64_t watched_moves = 0;  // slot moves since somebody watches
};

// max / mean of ranks' time over all layers: rows over speed, where speeds are known. 1 without
// load.
double Imbalance(const v1::ExpertLoad& load);
double Imbalance(const v1::LayerLoad& layer, const v1::ExpertLoad& load);

// The rank that others wait for: the one that waits least, if the others wait for at least a
// hundredth of the time and it waits less than half as much as they do in the mean; where waits say
// nothing, the slowest, if it is a tenth slower than the fastest.
std::optional<int> Straggler(const v1::ExpertLoad& load);

// Lines of at most screen.columns places, at most screen.rows of them, without newlines. Layers and
// experts that find no place of their own share one, which shows the busiest of them.
std::vector<std::string> RenderTop(const TopView& view, const Screen& screen);

}  // namespace ballast
