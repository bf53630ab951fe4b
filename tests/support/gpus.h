// What tests that run on any number of GPUs ask first.
#pragma once

#include <string>

#include "kernels/cuda/cuda_device.h"

namespace ballast::test {

// "" or why so many ranks cannot run here, for GTEST_SKIP: NCCL refuses two on one GPU.
inline std::string TooFewGpus(int ranks) {
  const auto gpus = static_cast<int>(FindGpus().gpus.size());
  if (ranks <= gpus) return "";
  return "found " + std::to_string(gpus) + (gpus == 1 ? " GPU" : " GPUs") + ", expected " +
         std::to_string(ranks) + ", one for each rank";
}

}  // namespace ballast::test
