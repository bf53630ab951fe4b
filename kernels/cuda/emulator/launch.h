// kernels/cuda/launch.h for the emulator.
#pragma once

#include <tuple>
#include <utility>

#include "kernels/cuda/emulator/machine.h"

namespace ballast {

template <typename... Parameters, typename... Arguments>
cudaError_t Launch(const char* name, void (*kernel)(Parameters...), const LaunchShape& shape,
                   cudaStream_t stream, Arguments&&... arguments) {
  // By value, as on a GPU: what the caller's variables become later is not seen.
  std::tuple<Parameters...> copied(std::forward<Arguments>(arguments)...);
  return emulator::EnqueueLaunch(
      name, {shape.grid, shape.block, shape.shared_bytes}, stream,
      [kernel, copied = std::move(copied)] { std::apply(kernel, copied); });
}

}  // namespace ballast
