// The rows of a layer's experts as lists, made on the GPU from the router's choices: which row of x
// each is, the groups of grouped products (matmul.h), and where each choice's answer will lie.
//
// One block of 512 threads, whatever the shape; dynamic shared memory: 12 bytes an expert and 4.
// Bytes moved: the choices twice, 16 bytes a choice, 160 and 24 an expert; no FLOPs. It is bound by
// latency, a few microseconds for the choices of a decode step, of which each thread has a few, and
// grows by about as much per 8 Ki choices.
//
// The order of rows within a group is that in which atomic additions in shared memory come, so it
// differs from run to run. No bit of an answer depends on it (matmul.h).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/tile_plan.h"
#include "kernels/device.h"

namespace ballast::cuda {

// Device memory, written by GroupRows.
struct GroupedRows {
  const void** from;    // [choices] where the row of x lies, by expert
  TiledGroup* gate_up;  // [experts]; those without rows have no tiles
  TiledGroup* down;     // [experts]
  int64_t* tiles;       // [2] of all groups: of gate_up, of down
};

// What all groups of a product have in common.
struct RoutedProduct {
  int64_t n;
  int64_t k;
  int64_t weight_stride;
  int64_t tiles_across;
};

// What run_experts (kernels/device.h) is asked for, and how its products are tiled. Only enqueues.
// No choices: nothing is enqueued. cudaErrorInvalidValue: the counts do not fit into 48 KiB (over
// 4094 experts).
struct RowGrouping {
  MatView x;
  const int32_t* ids;
  int32_t k;
  const MlpWeights* experts;  // [count]
  int32_t count;
  int64_t tile_rows;
  RoutedProduct gate_up;
  RoutedProduct down;
  MatView y;
  const float** answers;
};
cudaError_t GroupRows(cudaStream_t stream, const RowGrouping& grouping, const GroupedRows& out);

}  // namespace ballast::cuda
