#include "kernels/cuda/attention_plan.h"

#include <algorithm>

namespace ballast::cuda {
namespace {

// Blocks that keep an H100 busy, four on each of its 132 multiprocessors: with fewer to run at
// once, partitions are split.
constexpr int64_t kBlocksWanted = 528;
// A kernel gets 48 KiB without asking the driver for more; 1 KiB of it is static.
constexpr int64_t kMaxSharedBytes = int64_t{47} << 10;
constexpr int kTileRows[] = {16, 8, 1};
constexpr int kTensorCoreRows = 16;

int64_t Pieces(int64_t total, int64_t size) { return (total + size - 1) / size; }

bool UsesTensorCores(const KvCache& cache, int tile_rows) {
  return cache.type == DType::kBF16 && tile_rows == kTensorCoreRows;
}

int64_t SharedBytes(const KvCache& cache, int tile_rows, bool split) {
  const int64_t scores = tile_rows * kScoreStride * static_cast<int64_t>(sizeof(float));
  if (UsesTensorCores(cache, tile_rows)) {
    return scores + tile_rows * Bf16QueryStride(cache.k_dim) * static_cast<int64_t>(2);
  }
  const int64_t floats = cache.k_dim + (split ? 0 : cache.v_dim);
  return scores + tile_rows * floats * static_cast<int64_t>(sizeof(float));
}

bool Fits(const KvCache& cache, int tile_rows) {
  if (UsesTensorCores(cache, tile_rows) && cache.v_dim > kMaxTensorCoreValues) return false;
  return SharedBytes(cache, tile_rows, false) <= kMaxSharedBytes;
}

// Weighted sums, maximum and sum of one row over one partition.
int64_t RecordBytes(const KvCache& cache) {
  return (cache.v_dim + 2) * static_cast<int64_t>(sizeof(float));
}

// The smallest tile that holds a span's rows of one kv head, as they are on average; or the largest
// that fits.
int ChooseTileRows(const KvCache& cache, const AttentionShape& shape) {
  const int64_t rows = shape.rows * (shape.heads / cache.kv_heads);
  if (cache.type == DType::kBF16 && Fits(cache, kTensorCoreRows)) return kTensorCoreRows;
  int chosen = 0;
  for (const int tile_rows : kTileRows) {
    if (!Fits(cache, tile_rows)) continue;
    if (chosen == 0 || tile_rows * shape.num_spans >= rows) chosen = tile_rows;
  }
  return chosen;
}

}  // namespace

AttentionPlan PlanAttention(const KvCache& cache, const AttentionShape& shape, int tile_rows,
                            int splits) {
  const int64_t heads_per_kv = shape.heads / cache.kv_heads;
  AttentionPlan plan;
  plan.tile_rows = tile_rows;
  plan.tensor_cores = UsesTensorCores(cache, tile_rows);
  plan.tiles = shape.rows == shape.num_spans
                   ? shape.rows * Pieces(heads_per_kv, tile_rows)
                   : shape.rows * heads_per_kv / tile_rows + shape.num_spans;
  plan.partitions = Pieces(shape.max_keys, kAttentionPartition);
  if (shape.window > 0) {
    const int64_t keys = int64_t{shape.window} + tile_rows;
    plan.partitions = std::min(plan.partitions, Pieces(keys, kAttentionPartition) + 1);
  }
  plan.splits = splits;
  plan.shared_bytes = static_cast<size_t>(SharedBytes(cache, tile_rows, splits > 0));
  if (splits > 0) {
    plan.scratch_bytes =
        static_cast<size_t>(shape.rows * shape.heads * (splits + 1) * RecordBytes(cache));
  }
  return plan;
}

AttentionPlan PlanAttention(const KvCache& cache, const AttentionShape& shape) {
  const int tile_rows = ChooseTileRows(cache, shape);
  if (tile_rows == 0) return {};
  const AttentionPlan plan = PlanAttention(cache, shape, tile_rows, 0);
  const int64_t blocks = plan.tiles * cache.kv_heads;
  if (plan.partitions <= 1 || blocks == 0 || 2 * blocks > kBlocksWanted) return plan;
  const int64_t splits = std::min(
      {Pieces(kBlocksWanted, blocks), plan.partitions, static_cast<int64_t>(kMaxAttentionSplits)});
  return PlanAttention(cache, shape, tile_rows, static_cast<int>(splits));
}

// Of a split plan, rows * heads are at most blocks * tile_rows, blocks at most kBlocksWanted / 2,
// and splits + 1 at most kBlocksWanted / blocks + 2.
size_t MaxAttentionScratchBytes(const KvCache& cache) {
  for (const int tile_rows : kTileRows) {  // the largest first
    if (Fits(cache, tile_rows)) {
      return static_cast<size_t>(2 * kBlocksWanted * tile_rows * RecordBytes(cache));
    }
  }
  return 0;
}

}  // namespace ballast::cuda
