// What kernels of grouped products share: which group and which part of it a block computes.
#pragma once

#include "kernels/cuda/platform.h"
#include "kernels/cuda/tile_plan.h"

namespace ballast::cuda {

// The groups of a launch: a list in device memory, or one group that comes with the launch.
struct TiledGroups {
  const TiledGroup* list;  // null: `only`
  int64_t count;
  const int64_t* tiles;  // how many there are; null: as many as blocks
  TiledGroup only;
};

// `groups` is plan.groups in device memory, or null for a plan of one group; or the list that the
// plan says the GPU has.
inline TiledGroups GroupsOf(const TilePlan& plan, const TiledGroup* groups) {
  if (plan.groups.empty()) return {groups, plan.listed, plan.listed_tiles, {}};
  return {groups, static_cast<int64_t>(plan.groups.size()), nullptr, plan.groups.front()};
}

__device__ inline bool IsPastTheLast(const TiledGroups& groups, int64_t tile) {
  return groups.tiles != nullptr && tile >= *groups.tiles;
}

// The last group whose first tile is not after `tile`. By value: a parameter whose address is taken
// would move to local memory.
__device__ inline TiledGroup GroupOf(const TiledGroups& groups, int64_t tile) {
  if (groups.list == nullptr) return groups.only;
  int64_t low = 0;
  int64_t high = groups.count;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (groups.list[middle].first_tile <= tile) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return groups.list[low];
}

// What a tile is of its group.
struct Tile {
  int64_t row;   // of the group
  int64_t col;   // of the outputs
  int64_t rows;  // at most the shape's
  int64_t cols;
};

__device__ inline Tile TileOf(const TiledGroup& group, int64_t number, int64_t tile_rows,
                              int64_t tile_cols) {
  const int64_t across = (group.n + tile_cols - 1) / tile_cols;
  Tile tile;
  tile.row = number / across * tile_rows;
  tile.col = number % across * tile_cols;
  tile.rows = group.rows - tile.row < tile_rows ? group.rows - tile.row : tile_rows;
  tile.cols = group.n - tile.col < tile_cols ? group.n - tile.col : tile_cols;
  return tile;
}

}  // namespace ballast::cuda
