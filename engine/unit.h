// Which piece of hardware a rank runs on.
#pragma once

#include "kernels/device.h"

namespace ballast {

// A GPU each, in turn; 0 on a device that all ranks share. Processes that see one GPU each
// (CUDA_VISIBLE_DEVICES) take that one.
inline int UnitOfRank(const Device& device, int rank) {
  const int units = device.units();
  return units == 0 ? 0 : rank % units;
}

}  // namespace ballast
