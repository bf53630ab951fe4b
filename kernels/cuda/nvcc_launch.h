// kernels/cuda/launch.h for the GPU.
#pragma once

#include <utility>

namespace ballast {

template <typename... Parameters, typename... Arguments>
cudaError_t Launch(const char* /*name*/, void (*kernel)(Parameters...), const LaunchShape& shape,
                   cudaStream_t stream, Arguments&&... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

}  // namespace ballast
