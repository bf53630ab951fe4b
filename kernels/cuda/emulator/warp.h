// Operations that the lanes of a warp do together. `mask` and `place` as in Block::Exchange.
//
// Fragment layouts are those of the PTX ISA, sections 9.7.14.5.8 (m16n8k16) and 9.7.14.5.15
// (ldmatrix). The products of an mma are summed in k order by fused multiply-adds; hardware has an
// order of its own, which it keeps for every row.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cuda/emulator/block.h"

namespace ballast::emulator {

void SyncWarp(uint32_t mask, Place place);
uint32_t Ballot(uint32_t mask, bool predicate, Place place);

// Gives `bytes` at `value` to the others and takes those of the lane this one names in place.
enum class ShuffleKind : int { kLane, kXor, kDown };
void ShuffleBytes(ShuffleKind kind, uint32_t mask, void* value, size_t bytes, int argument,
                  Place place);

template <typename T>
T Shuffle(uint32_t mask, T value, int lane, Place place) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  ShuffleBytes(ShuffleKind::kLane, mask, &value, sizeof(T), lane, place);
  return value;
}
template <typename T>
T ShuffleXor(uint32_t mask, T value, int flip, Place place) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  ShuffleBytes(ShuffleKind::kXor, mask, &value, sizeof(T), flip, place);
  return value;
}
template <typename T>
T ShuffleDown(uint32_t mask, T value, int by, Place place) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  ShuffleBytes(ShuffleKind::kDown, mask, &value, sizeof(T), by, place);
  return value;
}

void LoadFragments(uint32_t (&out)[4], const __nv_bfloat16* row, bool transposed, Place place);
void MultiplyFragments(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                       Place place);

// Several ldmatrix.x4, `out` [count, 4], and several mma, `sums` [rows, cols, 4], `a` [rows, 4],
// `b` [cols, 2]; all lanes with the same counts.
void LoadManyFragments(uint32_t* out, const __nv_bfloat16* const* rows, int count, Place place);
void MultiplyManyFragments(float* sums, const uint32_t* a, const uint32_t* b, int rows, int cols,
                           Place place);

template <int kCount>
void LoadFragments(uint32_t (&out)[kCount][4], const __nv_bfloat16* const (&rows)[kCount],
                   Place place) {
  LoadManyFragments(&out[0][0], rows, kCount, place);
}
template <int kRows, int kCols>
void MultiplyTiles(float (&sums)[kRows][kCols][4], const uint32_t (&a)[kRows][4],
                   const uint32_t (&b)[kCols / 2][4], Place place) {
  MultiplyManyFragments(&sums[0][0][0], &a[0][0], &b[0][0], kRows, kCols, place);
}

}  // namespace ballast::emulator
