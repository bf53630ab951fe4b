// What a Stream's handle points to on the CPU.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/inner_loops.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/threads.h"
#include "kernels/device.h"

namespace ballast {

// Where a group's (or a span's) work items begin and how it is cut.
struct WorkCut {
  int64_t first_item = 0;
  int64_t panels_per_item = 0;
  int64_t rows_per_item = 0;
};

// The rows of a layer's experts, of the running verb.
struct ExpertLists {
  std::vector<int64_t> next;      // [experts + 1] where the next row of each goes
  std::vector<const void*> from;  // [choices] where row i of the experts' lies in x
  std::vector<GateUpGroup> gate_up;
  std::vector<MatmulGroup> down;
};

struct CpuStream {
  CpuStream(const InnerLoops& inner_loops, int threads)
      : loops(inner_loops), pool(threads), scratch(static_cast<size_t>(threads)) {
    for (Scratch& s : scratch) s.Reserve(kInitialScratch);
    cuts.reserve(kInitialCuts);
  }

  // Enough for common models, so that steps do not allocate; stranger shapes grow it once.
  static constexpr size_t kInitialScratch = size_t{2} << 20;
  static constexpr size_t kInitialCuts = 4096;

  const InnerLoops& loops;
  ThreadPool pool;
  std::vector<Scratch> scratch;  // [threads]
  std::vector<WorkCut> cuts;     // of the running verb
  ExpertLists experts;
};

inline CpuStream& StreamOf(Stream stream) { return *static_cast<CpuStream*>(stream.handle); }

// The group whose items contain `item`.
inline int64_t GroupOfItem(const std::vector<WorkCut>& cuts, int64_t item) {
  int64_t low = 0;
  int64_t high = static_cast<int64_t>(cuts.size());
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (cuts[static_cast<size_t>(middle)].first_item <= item ? low : high) = middle;
  }
  return low;
}

}  // namespace ballast
