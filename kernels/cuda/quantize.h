// Rows as numbers of 8 bits with a scale for each group of columns, and back. All memory is device
// memory. Each only enqueues, on `stream`; the answer is the launch's. No rows or columns: nothing
// is enqueued.
//
// scale = max|x| / M of the group, with M = 127 of int8 and 448 of E4M3 (eight_bit.h), in float32.
// code = x / scale, rounded to nearest even and cut off at +-M. A group of zeros, or one so small
// that its scale is 0, has codes 0. A group with a NaN or an infinity has scale NaN and codes 0:
// all of it comes back as NaN, so that a fault is seen rather than cut off.
// The maximum is the same in any order and everything else is an element's own, so a row's bits do
// not depend on its company, and they are the same on every device.
//
// Quantize: blocks of 256 threads, a warp for a group of up to 512 columns, a block for a larger
// one; 32 bytes of static shared memory. Bytes moved: x once (read again from L1), codes and scales
// once. Dequantize: a block of 256 threads per row, no shared memory; codes, scales and out once.
// FLOPs: a few for each element, so memory bounds both.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/device.h"

namespace ballast::cuda {

enum class EightBit : uint8_t { kInt8, kE4M3 };

// A row-major matrix of 8-bit codes.
struct EightBitView {
  uint8_t* codes = nullptr;
  EightBit format = EightBit::kInt8;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;       // codes from one row to the next
  int64_t group = 0;        // columns that share a scale; the last group of a row may have fewer
  float* scales = nullptr;  // [rows, scale_stride]
  int64_t scale_stride = 0;
};

constexpr int64_t GroupsOfRow(int64_t cols, int64_t group) { return (cols + group - 1) / group; }

// x f32 or bf16; rows and cols as out's. cudaErrorInvalidValue: out.group is not positive.
cudaError_t Quantize(cudaStream_t stream, MatView x, const EightBitView& out);
// out f32 or bf16 (nearest even); rows and cols as x's. The same error.
cudaError_t Dequantize(cudaStream_t stream, const EightBitView& x, MatView out);

}  // namespace ballast::cuda
