// What kernels are written with: CUDA's own names for threads, barriers and shuffles, and wrappers
// where CUDA's own cannot be had on the host (static shared memory, cp.async, ldmatrix, mma.sync).
//
// A .cu file is compiled twice: by nvcc for the GPU, and by the host's compiler for the emulator
// (kernels/cuda/emulator), which runs the same source thread by thread. Nothing beyond what both
// files below define is used by a kernel: no wgmma, TMA, clusters or waiting across blocks.
//
//   SHARED_ARRAY(type, name, count)   static shared memory; NaN in the emulator until written
//   SHARED_TILE(type, name, rows, cols)  the same in two dimensions
//   DYNAMIC_SHARED(type, name)        the launch's dynamic shared memory, 16-byte aligned
//   LoadVector<float4>(from)          a vector at once, from memory that is aligned as its type; a
//   StoreVector(to, vector)           dereferenced cast would not be checked by the emulator
//   UNROLL, ROLLED                    before a loop: all of its turns at once, so that arrays stay
//                                     in registers; one at a time, which takes fewer registers
//   CopyAsync<bytes>(to, from)        cp.async to shared memory, 4, 8 or 16 bytes, aligned so; then
//   CopyAsyncOrZero(to, from, count)  16 bytes, those after the first `count` being 0 and not read
//   CommitCopies(), WaitForCopies<n>()  as cp.async.commit_group and cp.async.wait_group n
//   LoadMatrix(out, row)              ldmatrix.x4: `out` 4 registers; `row` 8 bf16, a row of one of
//   LoadMatrixTransposed(out, row)      four 8x8 matrices (lanes 0-7: the first ...); .trans
//   MmaBf16(sum, a, b)                mma.m16n8k16, bf16 in, f32 sums: sum [4] += a [4] * b [2]
//   LoadMatrices(out, rows)           LoadMatrix(out[i], rows[i]) for all i
//   MmaBf16Tiles(sums, a, b)          MmaBf16 for all i and j: sums[i][j] [4] += a[i] [4] * that
//                                     half of b[j / 2] [4] which LoadMatrix filled for column j
// The last two wait once in the emulator, where that is what takes the time.
#pragma once

#ifdef __CUDACC__
#include "kernels/cuda/nvcc_side.h"
#else
#include "kernels/cuda/emulator/device_side.h"
#endif
