// What GPUs this machine has, and whether this build can use them.
#pragma once

#include <string>
#include <vector>

#include "kernels/cuda/architecture.h"

namespace ballast::cuda {

struct Gpu {
  std::string name;  // the maker's
  Architecture architecture;
};

// "NVIDIA H100 80GB HBM3, sm_90"
std::string Describe(const Gpu& gpu);

// Asks CUDA. On a problem the list is empty.
std::vector<Gpu> ListGpus(std::string* problem);

// "" when ranks can run on all of them together. Pure.
std::string CheckGpus(const std::vector<Gpu>& gpus);

}  // namespace ballast::cuda
