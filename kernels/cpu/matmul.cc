// Grouped matrix products. A group is cut into items (a range of panels by a range of rows) of
// about equal cost; an item goes through its panels and, for each few, through its rows in register
// tiles, so that a weight is read from memory once a step.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/number.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/stream.h"
#include "kernels/cpu/verbs.h"

namespace ballast::cpu {
namespace {

// Items per thread: more share out better, fewer read x less often.
constexpr int64_t kItemsPerThread = 8;
// Multiply-adds that are not worth handing to another thread.
constexpr int64_t kSmallestItem = 1 << 15;
// Rows of x that stay in the cache while an item goes through its panels.
constexpr int64_t kRowsPerItem = 192;
// With fewer rows than this the time goes into reading weights.
constexpr int64_t kRowsPerWeightRead = 4;

struct Block {
  int64_t panel_begin, panel_end;
  int64_t row_begin, row_end;  // within the group
};

struct GroupShape {
  int64_t rows, n, k;
};

int64_t CostOf(const GroupShape& g) {
  return std::max(g.rows, kRowsPerWeightRead) * RoundUp(g.n, kLanes) * g.k;
}

// Cuts a group into items of about `item_cost`: first by panels, then by rows. Panels are cut where
// the inner loop's own steps end.
WorkCut CutGroup(const GroupShape& g, int64_t item_cost, const InnerLoops& loops,
                 int64_t first_item) {
  const int64_t panels = NumPanels(g.n);
  const int64_t step = loops.panels[std::min(g.rows, loops.max_rows)];
  const int64_t wanted = std::max<int64_t>(1, CostOf(g) / item_cost);
  const int64_t steps = (panels + step - 1) / step;
  const int64_t panel_pieces = std::min(wanted, steps);
  const int64_t row_pieces = std::max((wanted + panel_pieces - 1) / panel_pieces,
                                      (g.rows + kRowsPerItem - 1) / kRowsPerItem);
  const int64_t rows = (g.rows + row_pieces - 1) / row_pieces;
  return {first_item, (steps + panel_pieces - 1) / panel_pieces * step,
          std::max<int64_t>(1, RoundUp(rows, loops.max_rows))};
}

int64_t Pieces(int64_t total, int64_t size) { return (total + size - 1) / size; }

// shape_of(g) gives a GroupShape; run(g, block, thread) computes it.
template <class ShapeOf, class RunBlock>
void ForBlocks(CpuStream& stream, int64_t num_groups, const ShapeOf& shape_of,
               const RunBlock& run) {
  int64_t total = 0;
  for (int64_t g = 0; g < num_groups; ++g) {
    if (shape_of(g).rows > 0) total += CostOf(shape_of(g));
  }
  const int64_t shares = stream.pool.threads() == 1 ? 1 : stream.pool.threads() * kItemsPerThread;
  const int64_t item_cost = std::max(kSmallestItem, total / shares);

  stream.cuts.clear();
  int64_t items = 0;
  for (int64_t g = 0; g < num_groups; ++g) {
    const GroupShape shape = shape_of(g);
    WorkCut cut{items, 1, 1};
    if (shape.rows > 0 && shape.n > 0) {
      cut = CutGroup(shape, item_cost, stream.loops, items);
      items +=
          Pieces(NumPanels(shape.n), cut.panels_per_item) * Pieces(shape.rows, cut.rows_per_item);
    }
    stream.cuts.push_back(cut);
  }
  stream.pool.For(items, [&](int64_t item, int thread) {
    const int64_t g = GroupOfItem(stream.cuts, item);
    const WorkCut& cut = stream.cuts[static_cast<size_t>(g)];
    const GroupShape shape = shape_of(g);
    const int64_t piece = item - cut.first_item;
    const int64_t row_pieces = Pieces(shape.rows, cut.rows_per_item);
    const int64_t panel = piece / row_pieces * cut.panels_per_item;
    const int64_t row = piece % row_pieces * cut.rows_per_item;
    run(g,
        Block{panel, std::min(NumPanels(shape.n), panel + cut.panels_per_item), row,
              std::min(shape.rows, row + cut.rows_per_item)},
        thread);
  });
}

// Calls body(begin, count) for tiles of nearly equal size: thirteen rows are 7 + 6, not 12 + 1.
template <class Body>
void ForRowTiles(int64_t begin, int64_t end, int64_t max_rows, const Body& body) {
  const int64_t tiles = Pieces(end - begin, max_rows);
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t from = begin + (end - begin) * t / tiles;
    body(from, begin + (end - begin) * (t + 1) / tiles - from);
  }
}

// Panels that go through all row tiles together.
int64_t PanelsAtOnce(const InnerLoops& loops, int64_t rows) {
  return loops.panels[std::min(rows, loops.max_rows)];
}

struct Operands {
  MatView x;
  MatView out;
  bool accumulate;
};

void StoreRow(const InnerLoops& loops, const Operands& operands, const float* from, int64_t n,
              int64_t row, int64_t column) {
  char* const to = At(operands.out.data, operands.out.type, row * operands.out.stride + column);
  if (operands.accumulate) {
    loops.add(from, n, reinterpret_cast<float*>(to));
  } else if (operands.out.type == DType::kBF16) {
    loops.round(from, n, reinterpret_cast<uint16_t*>(to));
  } else {
    std::memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
  }
}

void MatmulBlock(const InnerLoops& loops, const Operands& operands, const MatmulGroup& group,
                 const Block& block) {
  const PackedMatrix& w = *group.weight;
  const DotLoop dot = DotLoopFor(loops, operands.x.type, w.type);
  const int64_t panel_bytes = PanelBytes(w.type, w.k);
  const int64_t step = PanelsAtOnce(loops, block.row_end - block.row_begin);
  alignas(64) float products[kMaxTileRows * kMaxTilePanels * kLanes];
  const char* const weights = static_cast<const char*>(w.data);
  int64_t offsets[kMaxTilePanels];
  for (int64_t p = block.panel_begin; p < block.panel_end; p += step) {
    const int64_t panels = std::min(step, block.panel_end - p);
    for (int64_t i = 0; i < panels; ++i) offsets[i] = (p + i) * panel_bytes;
    const int64_t n = std::min(panels * kLanes, w.n - p * kLanes);
    const int64_t column = group.out_col + p * kLanes;
    const bool direct =
        operands.out.type == DType::kF32 && !operands.accumulate && n == panels * kLanes;
    ForRowTiles(block.row_begin, block.row_end, loops.max_rows, [&](int64_t first, int64_t rows) {
      const int64_t row = group.row_begin + first;
      float* const out = static_cast<float*>(operands.out.data);
      dot({.x = At(static_cast<const void*>(operands.x.data), operands.x.type,
                   row * operands.x.stride + group.x_col),
           .x_stride = operands.x.stride,
           .rows = rows,
           .segments = &weights,
           .segment_k = RoundUp(w.k, 2),
           .k = w.k,
           .panel_offsets = offsets,
           .panels = panels,
           .out = direct ? out + row * operands.out.stride + column : products,
           .out_stride = direct ? operands.out.stride : panels * kLanes,
           .jump = (step - 1) * panel_bytes});
      if (direct) return;
      for (int64_t r = 0; r < rows; ++r) {
        StoreRow(loops, operands, products + r * panels * kLanes, n, row + r, column);
      }
    });
  }
}

void GateUpBlock(const InnerLoops& loops, const Operands& operands, const GateUpGroup& group,
                 const Block& block) {
  const PackedMatrix& gate = *group.gate;
  const DotLoop dot = DotLoopFor(loops, operands.x.type, gate.type);
  const int64_t panel_bytes = PanelBytes(gate.type, gate.k);
  // Half of the panels are gate's, the other half up's.
  const int64_t step =
      std::max<int64_t>(1, PanelsAtOnce(loops, block.row_end - block.row_begin) / 2);
  alignas(64) float products[kMaxTileRows * kMaxTilePanels * kLanes];
  const char* const weights = static_cast<const char*>(gate.data);
  const int64_t up_offset =
      reinterpret_cast<intptr_t>(group.up->data) - reinterpret_cast<intptr_t>(gate.data);
  int64_t offsets[kMaxTilePanels];
  for (int64_t p = block.panel_begin; p < block.panel_end; p += step) {
    const int64_t panels = std::min(step, block.panel_end - p);
    for (int64_t i = 0; i < panels; ++i) {
      offsets[i] = (p + i) * panel_bytes;
      offsets[panels + i] = up_offset + offsets[i];
    }
    const int64_t n = std::min(panels * kLanes, gate.n - p * kLanes);
    const int64_t stride = 2 * panels * kLanes;
    ForRowTiles(block.row_begin, block.row_end, loops.max_rows, [&](int64_t first, int64_t rows) {
      const int64_t row = group.row_begin + first;
      dot({.x = At(static_cast<const void*>(operands.x.data), operands.x.type,
                   row * operands.x.stride),
           .x_stride = operands.x.stride,
           .rows = rows,
           .segments = &weights,
           .segment_k = RoundUp(gate.k, 2),
           .k = gate.k,
           .panel_offsets = offsets,
           .panels = 2 * panels,
           .out = products,
           .out_stride = stride,
           .jump = (step - 1) * panel_bytes});
      for (int64_t r = 0; r < rows; ++r) {
        const float* const product = products + r * stride;
        loops.swiglu(
            product, product + panels * kLanes, n, operands.out.type == DType::kBF16,
            At(operands.out.data, operands.out.type, (row + r) * operands.out.stride + p * kLanes));
      }
    });
  }
}

}  // namespace

void Matmul(Stream handle, MatView x, const MatmulGroup* groups, int64_t num_groups, MatView out,
            bool accumulate) {
  CpuStream& stream = StreamOf(handle);
  const Operands operands{x, out, accumulate};
  ForBlocks(
      stream, num_groups,
      [&](int64_t g) {
        return GroupShape{groups[g].rows, groups[g].weight->n, groups[g].weight->k};
      },
      [&](int64_t g, const Block& block, int) {
        MatmulBlock(stream.loops, operands, groups[g], block);
      });
}

void GateUp(Stream handle, MatView x, const GateUpGroup* groups, int64_t num_groups, MatView out) {
  CpuStream& stream = StreamOf(handle);
  const Operands operands{x, out, false};
  ForBlocks(
      stream, num_groups,
      [&](int64_t g) {
        return GroupShape{groups[g].rows, groups[g].gate->n, 2 * groups[g].gate->k};
      },
      [&](int64_t g, const Block& block, int) {
        GateUpBlock(stream.loops, operands, groups[g], block);
      });
}

}  // namespace ballast::cpu
