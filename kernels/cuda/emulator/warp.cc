#include "kernels/cuda/emulator/warp.h"

#include <bit>
#include <cmath>

#include "kernels/cuda/emulator/checkers.h"

namespace ballast::emulator {
namespace {

constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr size_t kRowBytes = 16;  // of a matrix that ldmatrix loads

template <typename T>
T& As(unsigned char* bytes) {
  return *reinterpret_cast<T*>(bytes);
}

float ToFloat(uint16_t bf16) { return std::bit_cast<float>(static_cast<uint32_t>(bf16) << 16); }

struct ShuffleLane {
  unsigned char value[8];
  int32_t source;  // -1: keeps its own
};

void FinishBallot(WarpExchange* const* lanes, uint32_t mask, int) {
  uint32_t votes = 0;
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    if ((mask >> lane & 1) != 0 && As<uint32_t>(lanes[lane]->in) != 0) votes |= 1u << lane;
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    if ((mask >> lane & 1) != 0) As<uint32_t>(lanes[lane]->out) = votes;
  }
}

// What is read from a lane that takes no part is undefined: all bits set.
void FinishShuffle(WarpExchange* const* lanes, uint32_t mask, int) {
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    const int source = As<ShuffleLane>(lanes[lane]->in).source;
    if ((mask >> source & 1) != 0) {
      std::memcpy(lanes[lane]->out, lanes[source]->in, sizeof(ShuffleLane::value));
    } else {
      Poison(lanes[lane]->out, sizeof(ShuffleLane::value));
    }
  }
}

// One ldmatrix.x4: out[lane] has room for 8, rows[lane] is the lane's row.
void LoadOne(uint16_t* const* out, const uint16_t* const* rows, bool transposed) {
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    for (int i = 0; i < 8; ++i) {
      const int matrix = i / 2;
      const int row = lane / 4;
      const int col = lane % 4 * 2 + i % 2;
      const uint16_t* const held = rows[matrix * 8 + (transposed ? col : row)];
      out[lane][i] = held[transposed ? row : col];
    }
  }
}

void FinishLoadMatrix(WarpExchange* const* lanes, uint32_t, int transposed) {
  uint16_t* out[kWarpLanes];
  const uint16_t* rows[kWarpLanes];
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    out[lane] = As<uint16_t[8]>(lanes[lane]->out);
    rows[lane] = As<const uint16_t*>(lanes[lane]->in);
  }
  LoadOne(out, rows, transposed != 0);
}

// Where a lane that waits has its operands.
struct ManyLoads {
  uint16_t* out;
  const uint16_t* const* rows;
};

void FinishManyLoads(WarpExchange* const* lanes, uint32_t, int count) {
  uint16_t* out[kWarpLanes];
  const uint16_t* rows[kWarpLanes];
  for (int i = 0; i < count; ++i) {
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      const auto& given = As<ManyLoads>(lanes[lane]->in);
      out[lane] = given.out + static_cast<ptrdiff_t>(i) * 8;
      rows[lane] = given.rows[i];
    }
    LoadOne(out, rows, false);
  }
}

// One mma: `sum` has 4, `a` 8 and `b` 4 elements of each lane.
struct MmaLane {
  float* sum;
  const uint16_t* a;
  const uint16_t* b;
};

void MultiplyOne(const MmaLane* lanes) {
  float a[16][16];
  float b[16][8];
  float sum[16][8];
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const int group = lane / 4;
    const int pair = lane % 4 * 2;
    for (int i = 0; i < 8; ++i) {
      a[group + (i / 2 % 2) * 8][pair + i % 2 + (i / 4) * 8] = ToFloat(lanes[lane].a[i]);
    }
    for (int i = 0; i < 4; ++i) b[pair + i % 2 + (i / 2) * 8][group] = ToFloat(lanes[lane].b[i]);
    for (int i = 0; i < 4; ++i) sum[group + (i / 2) * 8][pair + i % 2] = lanes[lane].sum[i];
  }
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < 16; ++k) {
      for (int col = 0; col < 8; ++col) {
        sum[row][col] = std::fma(a[row][k], b[k][col], sum[row][col]);
      }
    }
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    for (int i = 0; i < 4; ++i) {
      lanes[lane].sum[i] = sum[lane / 4 + (i / 2) * 8][lane % 4 * 2 + i % 2];
    }
  }
}

void FinishMma(WarpExchange* const* lanes, uint32_t, int shape) {
  const int rows = shape >> 8;
  const int cols = shape & 0xff;
  MmaLane tile[kWarpLanes];
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < cols; ++j) {
      for (int lane = 0; lane < kWarpLanes; ++lane) {
        const auto& given = As<MmaLane>(lanes[lane]->in);
        tile[lane] = {given.sum + (static_cast<ptrdiff_t>(i) * cols + j) * 4,
                      given.a + static_cast<ptrdiff_t>(i) * 8,
                      given.b + static_cast<ptrdiff_t>(j) * 4};
      }
      MultiplyOne(tile);
    }
  }
}

void CheckRow(Block& block, const __nv_bfloat16* row, Place place) {
  if (reinterpret_cast<uintptr_t>(row) % kRowBytes != 0) {
    block.Fail(place, "ldmatrix from an address that is not 16-byte aligned");
  }
  WatchRead(row, kRowBytes);
}

}  // namespace

void SyncWarp(uint32_t mask, Place place) { Block::Current().SyncWarp(mask, place); }

uint32_t Ballot(uint32_t mask, bool predicate, Place place) {
  Block& block = Block::Current();
  As<uint32_t>(block.thread().exchange.in) = predicate ? 1 : 0;
  return As<uint32_t>(block.Exchange(mask, place, FinishBallot, 0).out);
}

void ShuffleBytes(ShuffleKind kind, uint32_t mask, void* value, size_t bytes, int argument,
                  Place place) {
  Block& block = Block::Current();
  const int own = block.thread().lane();
  int source = kind == ShuffleKind::kLane  ? argument % kWarpLanes
               : kind == ShuffleKind::kXor ? own ^ argument
                                           : own + argument;
  if (source < 0 || source >= kWarpLanes) source = own;
  auto& given = As<ShuffleLane>(block.thread().exchange.in);
  std::memcpy(given.value, value, bytes);
  given.source = source;
  std::memcpy(value, block.Exchange(mask, place, FinishShuffle, static_cast<int>(kind)).out, bytes);
}

void LoadFragments(uint32_t (&out)[4], const __nv_bfloat16* row, bool transposed, Place place) {
  Block& block = Block::Current();
  CheckRow(block, row, place);
  As<const __nv_bfloat16*>(block.thread().exchange.in) = row;
  std::memcpy(out, block.Exchange(kAllLanes, place, FinishLoadMatrix, transposed ? 1 : 0).out,
              sizeof(out));
}

void MultiplyFragments(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                       Place place) {
  MultiplyManyFragments(sum, a, b, 1, 1, place);
}

void LoadManyFragments(uint32_t* out, const __nv_bfloat16* const* rows, int count, Place place) {
  Block& block = Block::Current();
  for (int i = 0; i < count; ++i) CheckRow(block, rows[i], place);
  As<ManyLoads>(block.thread().exchange.in) = {reinterpret_cast<uint16_t*>(out),
                                               reinterpret_cast<const uint16_t* const*>(rows)};
  block.Exchange(kAllLanes, place, FinishManyLoads, count);
}

void MultiplyManyFragments(float* sums, const uint32_t* a, const uint32_t* b, int rows, int cols,
                           Place place) {
  Block& block = Block::Current();
  As<MmaLane>(block.thread().exchange.in) = {sums, reinterpret_cast<const uint16_t*>(a),
                                             reinterpret_cast<const uint16_t*>(b)};
  block.Exchange(kAllLanes, place, FinishMma, rows << 8 | cols);
}

}  // namespace ballast::emulator
