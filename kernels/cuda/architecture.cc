#include "kernels/cuda/architecture.h"

namespace ballast::cuda {

std::string NamesOf(std::span<const Architecture> architectures) {
  std::string names;
  for (const Architecture& architecture : architectures) {
    if (!names.empty()) names += ", ";
    names += "sm_" + std::to_string(architecture.major * 10 + architecture.minor);
  }
  return names;
}

}  // namespace ballast::cuda
