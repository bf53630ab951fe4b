#include "kernels/cuda/group_rows.h"

#include "kernels/cuda/arithmetic.h"
#include "kernels/cuda/launch.h"

namespace ballast::cuda {
namespace {

constexpr int kThreads = 512;
constexpr size_t kMaxSharedBytes = size_t{48} << 10;

// What the block counts, in shared memory.
struct Counts {
  int* rows;   // [experts]
  int* next;   // [experts] where the expert's next row goes; its first one at first
  int* tiles;  // [experts + 1] tiles of rows before the expert's; last: of all
};

__device__ inline Counts CountsAt(int* memory, int experts) {
  return {memory, memory + experts, memory + 2 * experts};
}

// The sum of lower lanes' values.
__device__ inline int SumBefore(int value, int lane) {
  int sum = value;
  for (int by = 1; by < 32; by *= 2) {
    const int below = __shfl_sync(kAllLanes, sum, lane >= by ? lane - by : lane);
    if (lane >= by) sum += below;
  }
  return sum - value;
}

// Adds up rows and tiles, by one warp: a run of experts for each lane.
__device__ void AddUp(const Counts& counts, int experts, int tile_rows, int lane) {
  const int each = (experts + 31) / 32;
  const int begin = lane * each < experts ? lane * each : experts;
  const int end = begin + each < experts ? begin + each : experts;
  int rows = 0;
  int tiles = 0;
  for (int e = begin; e < end; ++e) {
    rows += counts.rows[e];
    tiles += (counts.rows[e] + tile_rows - 1) / tile_rows;
  }
  rows = SumBefore(rows, lane);
  tiles = SumBefore(tiles, lane);
  for (int e = begin; e < end; ++e) {
    counts.next[e] = rows;
    counts.tiles[e] = tiles;
    rows += counts.rows[e];
    tiles += (counts.rows[e] + tile_rows - 1) / tile_rows;
  }
  if (lane == 31) counts.tiles[experts] = tiles;
}

struct GroupRange {
  int64_t begin;
  int64_t rows;
  int64_t tiles;  // of rows before it
};

__device__ inline TiledGroup GroupFor(const RoutedProduct& product, const void* weight,
                                      const void* up, const GroupRange& range) {
  return {weight,      up,         product.n, product.k, product.weight_stride,
          range.begin, range.rows, 0,         0,         range.tiles * product.tiles_across};
}

__global__ void __launch_bounds__(kThreads) GroupRowsKernel(RowGrouping g, GroupedRows out) {
  DYNAMIC_SHARED(int, shared);
  const Counts counts = CountsAt(shared, g.count);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t choices = g.x.rows * g.k;
  for (int e = thread; e < g.count; e += kThreads) counts.rows[e] = 0;
  __syncthreads();
  for (int64_t i = thread; i < choices; i += kThreads) atomicAdd(&counts.rows[g.ids[i]], 1);
  __syncthreads();
  if (thread < 32) AddUp(counts, g.count, static_cast<int>(g.tile_rows), thread);
  __syncthreads();
  for (int e = thread; e < g.count; e += kThreads) {
    const MlpWeights& expert = g.experts[e];
    const GroupRange range = {counts.next[e], counts.rows[e], counts.tiles[e]};
    out.gate_up[e] = GroupFor(g.gate_up, expert.gate.data, expert.up.data, range);
    out.down[e] = GroupFor(g.down, expert.down.data, nullptr, range);
  }
  if (thread == 0) {
    const int64_t tiles = counts.tiles[g.count];
    out.tiles[0] = tiles * g.gate_up.tiles_across;
    out.tiles[1] = tiles * g.down.tiles_across;
  }
  __syncthreads();
  const int64_t x_bytes = g.x.stride * (g.x.type == DType::kF32 ? 4 : 2);
  const char* const x = static_cast<const char*>(g.x.data);
  const float* const y = static_cast<const float*>(g.y.data);
  for (int64_t i = thread; i < choices; i += kThreads) {
    const int row = atomicAdd(&counts.next[g.ids[i]], 1);
    out.from[row] = x + i / g.k * x_bytes;
    g.answers[i] = y + row * g.y.stride;
  }
}

}  // namespace

cudaError_t GroupRows(cudaStream_t stream, const RowGrouping& grouping, const GroupedRows& out) {
  if (grouping.x.rows == 0) return cudaSuccess;
  const size_t shared_bytes = sizeof(int) * (3 * static_cast<size_t>(grouping.count) + 1);
  if (shared_bytes > kMaxSharedBytes) return cudaErrorInvalidValue;
  return Launch("group_rows", GroupRowsKernel, {dim3(1), dim3(kThreads), shared_bytes}, stream,
                grouping, out);
}

}  // namespace ballast::cuda
