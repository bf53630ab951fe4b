// The one way a kernel starts, on the GPU and in the emulator.
//
//   Launch("rms_norm", RmsNorm<float>, {dim3(rows), dim3(256), bytes}, stream, x, weight, out)
//
// Arguments are taken by value at the call; the kernel runs when its stream comes to it. Errors are
// the runtime's: a shape that the device does not take, an invalid stream, or what the device has
// failed with before. The name is for the emulator's messages.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace ballast {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // dynamic
};

}  // namespace ballast

#ifdef __CUDACC__
#include "kernels/cuda/nvcc_launch.h"
#else
#include "kernels/cuda/emulator/launch.h"
#endif
