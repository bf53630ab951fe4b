// The verb run_experts of kernels/device.h on a GPU: group_rows, copy_rows, gate_up, matmul, one
// after another, shaped by (x.rows, k, table) alone. The products are launched over the most tiles
// that any choice makes; blocks past the last tile end at once.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/device.h"

namespace ballast::cuda {

// Device memory that RunExperts works in, for that many choices among so many experts.
size_t ExpertScratchBytes(int64_t choices, int32_t experts);

// Only enqueues. No rows: nothing is enqueued. cudaErrorInvalidValue: too many experts, as
// GroupRows says.
cudaError_t RunExperts(cudaStream_t stream, MatView x, const int32_t* ids, int32_t k,
                       const ExpertTable& table, const ExpertRows& rows, void* scratch);

}  // namespace ballast::cuda
