#include "kernels/cuda/experts.h"

#include "kernels/cuda/group_rows.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/rows.h"

namespace ballast::cuda {
namespace {

// Where the lists lie in scratch memory, and its bytes.
struct Layout {
  GroupedRows lists;
  size_t bytes;
};

Layout LayOut(void* scratch, int64_t choices, int32_t experts) {
  char* const base = static_cast<char*>(scratch);
  const size_t pointers = AlignUp(static_cast<size_t>(choices) * sizeof(void*));
  const size_t groups = AlignUp(static_cast<size_t>(experts) * sizeof(TiledGroup));
  Layout layout = {{}, pointers + 2 * groups + 2 * sizeof(int64_t)};
  if (base == nullptr) return layout;
  layout.lists = {reinterpret_cast<const void**>(base),
                  reinterpret_cast<TiledGroup*>(base + pointers),
                  reinterpret_cast<TiledGroup*>(base + pointers + groups),
                  reinterpret_cast<int64_t*>(base + pointers + 2 * groups)};
  return layout;
}

RoutedProduct ProductOf(ProductKernel kernel, bool gate_up, const PackedMatrix& shape) {
  return {shape.n, shape.k, PackedStride(shape.k), TilesAcross(kernel, gate_up, shape.n)};
}

MatView First(MatView view, int64_t rows) {
  view.rows = rows;
  return view;
}

}  // namespace

size_t ExpertScratchBytes(int64_t choices, int32_t experts) {
  return LayOut(nullptr, choices, experts).bytes;
}

cudaError_t RunExperts(cudaStream_t stream, MatView x, const int32_t* ids, int32_t k,
                       const ExpertTable& table, const ExpertRows& rows, void* scratch) {
  if (x.rows == 0) return cudaSuccess;
  if (scratch == nullptr) return cudaErrorInvalidValue;
  const int64_t choices = x.rows * k;
  const GroupedRows lists = LayOut(scratch, choices, table.count).lists;
  const RoutedRows routed = {x.type, choices, table.count};
  const TilePlan gate_up = PlanRoutedTiles(routed, table.shape.gate, true, &lists.tiles[0]);
  const TilePlan down = PlanRoutedTiles(routed, table.shape.down, false, &lists.tiles[1]);
  const RowGrouping grouping = {x,
                                ids,
                                k,
                                table.experts,
                                table.count,
                                ShapeOf(gate_up.kernel, true).rows,
                                ProductOf(gate_up.kernel, true, table.shape.gate),
                                ProductOf(down.kernel, false, table.shape.down),
                                rows.y,
                                rows.answers};
  cudaError_t error = GroupRows(stream, grouping, lists);
  if (error == cudaSuccess) error = CopyRows(stream, lists.from, First(rows.x, choices));
  const MatView h = First(rows.h, choices);
  if (error == cudaSuccess) {
    error = GateUp(stream, First(rows.x, choices), gate_up, lists.gate_up, h);
  }
  if (error == cudaSuccess) {
    error = Matmul(stream, h, down, lists.down, First(rows.y, choices), false);
  }
  return error;
}

}  // namespace ballast::cuda
