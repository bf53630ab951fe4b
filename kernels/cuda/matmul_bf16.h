// Grouped matrix products on a GPU's tensor cores: x and weights in bf16, sums in float32.
//
// Every output is one accumulator that takes k in steps of 16, in order, by mma.sync m16n8k16; the
// last step is filled with zeros. Neither the tile, nor the rows beside it, nor the grid changes
// that chain, so a row's bits do not depend on its company (how an mma adds its 16 products is the
// hardware's, alike for all rows). They are not the CPU's bits.
//
// Two tiles, by how many rows the largest group has (tile_plan.h), all shared memory static. Of
// gate_up half of a tile's columns are gate, half up:
//              rows x columns   block         a step of k, buffers   shared memory
//   kBf16Few    16 x 32          64 threads   64, 6                  36.0 KiB
//   kBf16Many  128 x 128        256 threads   32, 3                  48.0 KiB
// Bytes moved: weights once per tile of rows, x once per tile of columns. FLOPs: 2 rows n k of each
// group, rows counted up to the next 16. Few: reading the weights bounds it, with 20 KiB on their
// way in each block. Many: on an H100 the tensor cores' rate for mma.sync, or what L2 gives: 64
// FLOPs a byte, from about 5.5 TB/s.
//
// Rows of x that are not 16-byte aligned (x_col, stride) are read two bytes at a time, and give the
// same bits.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/tile_plan.h"
#include "kernels/device.h"

namespace ballast::cuda {

// As Matmul and GateUp of matmul.h, which call these for plans of a bf16 kernel.
cudaError_t MatmulBf16(cudaStream_t stream, MatView x, const TilePlan& plan,
                       const TiledGroup* groups, MatView out, bool accumulate);
cudaError_t GateUpBf16(cudaStream_t stream, MatView x, const TilePlan& plan,
                       const TiledGroup* groups, MatView out);

}  // namespace ballast::cuda
