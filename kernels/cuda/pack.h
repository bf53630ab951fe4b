// Weights into a GPU's memory: [n, PackedStride(k)] of their type, row-major (tile_plan.h), through
// pinned memory, a few rows at a time.
#pragma once

#include "kernels/cuda/cuda_stream.h"
#include "kernels/device.h"

namespace ballast::cuda {

size_t PackedBytes(DType type, int64_t n, int64_t k);

// As Device::pack; what pads a row is 0. `in` is read before it returns.
void Pack(CudaStream& stream, const HostMatrix& in, const PackedMatrix& out);

}  // namespace ballast::cuda
