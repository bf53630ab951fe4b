// Paged attention. Scores and weighted sums are panel products over the cache's blocks; the rows of
// a register tile are the queries of one kv head, several positions by the heads that share it.
//
// A row's bits must not depend on the rows beside it. So each row takes exactly the keys it may
// see: blocks from the one that holds its first key, and in its last block only the tokens up to
// its own position. Rows that differ in the first are put into different tiles; rows that differ in
// the last share the blocks that all of them see and finish alone.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/kv_layout.h"
#include "kernels/cpu/number.h"
#include "kernels/cpu/stream.h"
#include "kernels/cpu/verbs.h"

namespace ballast::cpu {
namespace {

// Rows of a work item; its partition of keys is read from L2 for each tile of them.
constexpr int64_t kRowsPerItem = 48;
constexpr int64_t kBlocksPerPartition = kAttentionPartition / kKvBlockTokens;

struct Call {
  const KvCache& cache;
  const KvLayout layout;
  const HeadsView& q;
  const AttentionBatch& batch;
  const float scale;
  const int64_t window;
  const float* const sinks;  // [heads] or null
  const HeadsView& out;
  const int64_t heads_per_kv;
  const InnerLoops& loops;
  const DotLoop dot;
};

// One thread's working memory, cut out of its scratch.
struct Workspace {
  char* q;            // [rows, k_dim] of the cache's type
  float* scores;      // [tile rows, kAttentionPartition]
  uint16_t* rounded;  // [tile rows, kAttentionPartition], bf16 caches only
  float* part;        // [tile rows, 16 * value_panels]
  float* out;         // [rows, 16 * value_panels]
  float* max;         // [rows]
  float* sum;         // [rows]
  int64_t* offsets;   // [max(value_panels, blocks of a partition)]
  char* values;       // [blocks of a partition][value panels], with v_in_k
};

Workspace CutScratch(const Call& call, Scratch& scratch) {
  const int64_t value_width = call.layout.value_panels * kLanes;
  const int64_t tile_rows = call.loops.max_rows;
  size_t used = 0;
  const auto take = [&used](int64_t bytes) {
    const size_t at = used;
    used += static_cast<size_t>(RoundUp(bytes, 64));
    return at;
  };
  const size_t q = take(kRowsPerItem * call.cache.k_dim * 4);
  const size_t scores = take(tile_rows * kAttentionPartition * 4);
  const size_t rounded = take(tile_rows * kAttentionPartition * 2);
  const size_t part = take(tile_rows * value_width * 4);
  const size_t out = take(kRowsPerItem * value_width * 4);
  const size_t max = take(kRowsPerItem * 4);
  const size_t sum = take(kRowsPerItem * 4);
  const size_t offsets = take(std::max(call.layout.value_panels, kBlocksPerPartition) * 8);
  const size_t values = take(call.cache.v_in_k ? kBlocksPerPartition * call.layout.value_panels *
                                                     call.layout.value_panel_bytes
                                               : 0);
  scratch.Reserve(used);
  char* const base = scratch.data();
  return {.q = base + q,
          .scores = reinterpret_cast<float*>(base + scores),
          .rounded = reinterpret_cast<uint16_t*>(base + rounded),
          .part = reinterpret_cast<float*>(base + part),
          .out = reinterpret_cast<float*>(base + out),
          .max = reinterpret_cast<float*>(base + max),
          .sum = reinterpret_cast<float*>(base + sum),
          .offsets = reinterpret_cast<int64_t*>(base + offsets),
          .values = base + values};
}

// Keys [begin, end) by position.
struct KeyRange {
  int64_t begin, end;
};

// Rows [row_begin, row_end) of a span and kv head; row i is query i / heads_per_kv, head
// i % heads_per_kv of those that share the kv head.
struct Item {
  const AttentionSpan& span;
  const int32_t* table;
  int64_t kv_head;
  int64_t row_begin, row_end;

  KeyRange Keys(const Call& call, int64_t row) const {
    const int64_t position = span.first_position + (row_begin + row) / call.heads_per_kv;
    const int64_t begin = call.window > 0 ? std::max<int64_t>(0, position + 1 - call.window) : 0;
    return {begin, position + 1};
  }
  int64_t Query(const Call& call, int64_t row) const {
    return span.row_begin + (row_begin + row) / call.heads_per_kv;
  }
  int64_t Head(const Call& call, int64_t row) const {
    return kv_head * call.heads_per_kv + (row_begin + row) % call.heads_per_kv;
  }
  const char* Block(const Call& call, int64_t block) const {
    return static_cast<const char*>(call.cache.data) + table[block] * call.layout.block_bytes +
           kv_head * call.layout.head_bytes;
  }
};

int64_t BlockStart(int64_t position) { return position / kKvBlockTokens * kKvBlockTokens; }

// Rewrites a block's keys (lanes are tokens) as values (lanes are dimensions). Two tokens by two
// dimensions are 64 bits in both; only the middle 16-bit quarters trade places.
void Bf16KeysToValues(int64_t dims, const char* keys, char* values) {
  constexpr int64_t kPairs = kKvBlockTokens / 2;
  for (int64_t d = 0; d + 1 < dims; d += 2) {
    const char* const from = keys + d / 2 * kLanes * 4;
    char* const to = values + (d / kLanes * kPairs * kLanes + d % kLanes) * 4;
    for (int64_t pair = 0; pair < kPairs; ++pair) {
      uint64_t quarters;
      std::memcpy(&quarters, from + pair * 8, 8);
      quarters = (quarters & 0xFFFF00000000FFFF) | ((quarters & 0xFFFF0000) << 16) |
                 ((quarters >> 16) & 0xFFFF0000);
      std::memcpy(to + pair * kLanes * 4, &quarters, 8);
    }
  }
}

void KeysToValues(const Call& call, const char* keys, char* values) {
  const DType type = call.cache.type;
  int64_t done = 0;
  if (type == DType::kBF16) {
    Bf16KeysToValues(call.cache.v_dim, keys, values);
    done = call.cache.v_dim / 2 * 2;
  }
  for (int64_t d = done; d < call.cache.v_dim; ++d) {
    char* const panel = values + d / kLanes * call.layout.value_panel_bytes;
    for (int64_t token = 0; token < kKvBlockTokens; ++token) {
      std::memcpy(At(static_cast<void*>(panel), type, PanelElement(type, d % kLanes, token)),
                  At(keys, type, PanelElement(type, token, d)), SizeOf(type));
    }
  }
}

// A register tile: rows [first, first + rows) of the item, whose keys in this partition begin in
// the same block.
struct Tile {
  int64_t first, rows;
  int64_t begin;      // of that block, by position
  int64_t partition;  // where the partition begins, by position
};

KeyRange KeysInPartition(const Call& call, const Item& item, int64_t row, int64_t partition) {
  const KeyRange keys = item.Keys(call, row);
  return {std::max(keys.begin, partition), std::min(keys.end, partition + kAttentionPartition)};
}

void Scores(const Call& call, const Item& item, const Tile& tile, const Workspace& space) {
  const KeyRange last = KeysInPartition(call, item, tile.first + tile.rows - 1, tile.partition);
  const int64_t first_block = tile.begin / kKvBlockTokens;
  const int64_t blocks = (last.end - tile.begin + kKvBlockTokens - 1) / kKvBlockTokens;
  const char* const base =
      static_cast<const char*>(call.cache.data) + item.kv_head * call.layout.head_bytes;
  for (int64_t b = 0; b < blocks; ++b) {
    space.offsets[b] = item.table[first_block + b] * call.layout.block_bytes;
  }
  call.dot({.x = At(space.q, call.cache.type, tile.first * call.cache.k_dim),
            .x_stride = call.cache.k_dim,
            .rows = tile.rows,
            .segments = &base,
            .segment_k = RoundUp(call.cache.k_dim, 2),
            .k = call.cache.k_dim,
            .panel_offsets = space.offsets,
            .panels = blocks,
            .out = space.scores + (tile.begin - tile.partition),
            .out_stride = kAttentionPartition});
}

// part[rows from `row`] = exponentials * values over keys [begin, end), `begin` at a block's start;
// continues the sums of [tile.begin, begin) where there are any.
void WeightedSum(const Call& call, const Item& item, const Tile& tile, int64_t row, int64_t rows,
                 KeyRange keys, const Workspace& space) {
  const int64_t value_width = call.layout.value_panels * kLanes;
  const char* blocks[kBlocksPerPartition];
  for (int64_t at = keys.begin, b = 0; at < keys.end; at += kKvBlockTokens, ++b) {
    blocks[b] = call.cache.v_in_k
                    ? space.values + (at - tile.partition) / kKvBlockTokens *
                                         call.layout.value_panels * call.layout.value_panel_bytes
                    : item.Block(call, at / kKvBlockTokens) + call.layout.key_bytes;
  }
  const void* const numerators = call.cache.type == DType::kBF16
                                     ? static_cast<const void*>(space.rounded)
                                     : static_cast<const void*>(space.scores);
  call.dot({.x = At(numerators, call.cache.type,
                    row * kAttentionPartition + keys.begin - tile.partition),
            .x_stride = kAttentionPartition,
            .rows = rows,
            .segments = blocks,
            .segment_k = kKvBlockTokens,
            .k = keys.end - keys.begin,
            .panel_offsets = space.offsets,
            .panels = call.layout.value_panels,
            .out = space.part + row * value_width,
            .out_stride = value_width,
            .accumulate = keys.begin > tile.begin});
}

void WeightedSums(const Call& call, const Item& item, const Tile& tile, const Workspace& space) {
  for (int64_t p = 0; p < call.layout.value_panels; ++p) {
    space.offsets[p] = p * call.layout.value_panel_bytes;
  }
  const auto end_of = [&](int64_t row) {
    return KeysInPartition(call, item, tile.first + row, tile.partition).end;
  };
  const int64_t earliest = end_of(0);  // positions rise with the row
  int64_t common = earliest;
  if (end_of(tile.rows - 1) != earliest) common = BlockStart(earliest);
  if (common > tile.begin) {
    WeightedSum(call, item, tile, 0, tile.rows, {tile.begin, common}, space);
  }
  for (int64_t row = 0; row < tile.rows;) {
    const int64_t end = end_of(row);
    int64_t next = row + 1;
    while (next < tile.rows && end_of(next) == end) ++next;
    if (end > common) WeightedSum(call, item, tile, row, next - row, {common, end}, space);
    row = next;
  }
}

void AttendTile(const Call& call, const Item& item, const Tile& tile, const Workspace& space) {
  const int64_t value_width = call.layout.value_panels * kLanes;
  float part_max[kMaxTileRows];
  float part_sum[kMaxTileRows];
  Scores(call, item, tile, space);
  for (int64_t r = 0; r < tile.rows; ++r) {
    const KeyRange keys = KeysInPartition(call, item, tile.first + r, tile.partition);
    const bool bf16 = call.cache.type == DType::kBF16;
    call.loops.exponentials(space.scores + r * kAttentionPartition, keys.begin - tile.partition,
                            keys.end - tile.partition, call.scale,
                            bf16 ? space.rounded + r * kAttentionPartition : nullptr, part_max + r,
                            part_sum + r);
  }
  WeightedSums(call, item, tile, space);
  for (int64_t r = 0; r < tile.rows; ++r) {
    const int64_t row = tile.first + r;
    const float* const part = space.part + r * value_width;
    float* const out = space.out + row * value_width;
    const bool first = item.Keys(call, row).begin >= tile.partition;
    if (first) {
      space.max[row] = part_max[r];
      space.sum[row] = part_sum[r];
      std::memcpy(out, part, static_cast<size_t>(value_width) * sizeof(float));
    } else {
      call.loops.merge(part_max[r], part_sum[r], part, value_width, space.max + row,
                       space.sum + row, out);
    }
  }
}

void AttendPartition(const Call& call, const Item& item, int64_t partition,
                     const Workspace& space) {
  const int64_t rows = item.row_end - item.row_begin;
  if (call.cache.v_in_k) {
    const int64_t begin = BlockStart(KeysInPartition(call, item, 0, partition).begin);
    const int64_t end = KeysInPartition(call, item, rows - 1, partition).end;
    for (int64_t at = begin; at < end; at += kKvBlockTokens) {
      KeysToValues(call, item.Block(call, at / kKvBlockTokens),
                   space.values + (at - partition) / kKvBlockTokens * call.layout.value_panels *
                                      call.layout.value_panel_bytes);
    }
  }
  for (int64_t row = 0; row < rows;) {
    const KeyRange keys = KeysInPartition(call, item, row, partition);
    if (keys.begin >= keys.end) {
      ++row;
      continue;
    }
    const int64_t begin = BlockStart(keys.begin);
    int64_t run = row + 1;
    while (run < rows && BlockStart(KeysInPartition(call, item, run, partition).begin) == begin) {
      ++run;
    }
    // Tiles of nearly equal size: sixteen rows are 8 + 8, not 12 + 4.
    const int64_t tiles = (run - row + call.loops.max_rows - 1) / call.loops.max_rows;
    const int64_t tile_rows = (run - row + tiles - 1) / tiles;
    AttendTile(call, item, {row, tile_rows, begin, partition}, space);
    row += tile_rows;
  }
}

// A sink is a partition of one key, whose score is the sink's and whose value is 0.
void MergeSinks(const Call& call, const Item& item, const Workspace& space) {
  const int64_t value_width = call.layout.value_panels * kLanes;
  std::fill_n(space.part, value_width, 0.0f);
  for (int64_t row = 0; row < item.row_end - item.row_begin; ++row) {
    call.loops.merge(call.sinks[item.Head(call, row)], 1.0f, space.part, value_width,
                     space.max + row, space.sum + row, space.out + row * value_width);
  }
}

void Attend(const Call& call, const Item& item, Scratch& scratch) {
  const Workspace space = CutScratch(call, scratch);
  const int64_t rows = item.row_end - item.row_begin;
  const int64_t value_width = call.layout.value_panels * kLanes;
  const size_t row_bytes = static_cast<size_t>(call.cache.k_dim) * SizeOf(call.cache.type);
  for (int64_t row = 0; row < rows; ++row) {
    std::memcpy(
        At(space.q, call.cache.type, row * call.cache.k_dim),
        At(static_cast<const void*>(call.q.data), call.cache.type,
           item.Query(call, row) * call.q.row_stride + item.Head(call, row) * call.q.head_stride),
        row_bytes);
  }
  const int64_t first = item.Keys(call, 0).begin / kAttentionPartition * kAttentionPartition;
  const int64_t end = item.Keys(call, rows - 1).end;
  for (int64_t partition = first; partition < end; partition += kAttentionPartition) {
    AttendPartition(call, item, partition, space);
  }
  if (call.sinks != nullptr) MergeSinks(call, item, space);
  for (int64_t row = 0; row < rows; ++row) {
    call.loops.divide(space.out + row * value_width, call.cache.v_dim, space.sum[row],
                      call.out.type == DType::kBF16,
                      At(call.out.data, call.out.type,
                         item.Query(call, row) * call.out.row_stride +
                             item.Head(call, row) * call.out.head_stride));
  }
}

}  // namespace

void Attention(Stream handle, const KvCache& cache, HeadsView q, const AttentionBatch& batch,
               float scale, int32_t window, const float* sinks, HeadsView out) {
  CpuStream& stream = StreamOf(handle);
  const Call call{cache,
                  KvLayout(cache),
                  q,
                  batch,
                  scale,
                  window,
                  sinks,
                  out,
                  q.heads / cache.kv_heads,
                  stream.loops,
                  DotLoopFor(stream.loops, cache.type, cache.type)};
  stream.cuts.clear();
  int64_t items = 0;
  for (int64_t s = 0; s < batch.num_spans; ++s) {
    const int64_t rows = batch.spans[s].rows * call.heads_per_kv;
    stream.cuts.push_back({items, 0, std::min(rows, kRowsPerItem)});
    items += cache.kv_heads * ((rows + kRowsPerItem - 1) / kRowsPerItem);
  }
  stream.pool.For(items, [&](int64_t index, int thread) {
    const int64_t s = GroupOfItem(stream.cuts, index);
    const WorkCut& cut = stream.cuts[static_cast<size_t>(s)];
    const AttentionSpan& span = batch.spans[s];
    const int64_t rows = span.rows * call.heads_per_kv;
    const int64_t piece = index - cut.first_item;
    const int64_t first = piece / cache.kv_heads * cut.rows_per_item;
    Attend(call,
           {span, batch.block_tables + span.table_begin, piece % cache.kv_heads, first,
            std::min(rows, first + cut.rows_per_item)},
           stream.scratch[static_cast<size_t>(thread)]);
  });
}

}  // namespace ballast::cpu
