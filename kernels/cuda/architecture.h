// Which GPUs a program has code for. Pure.
#pragma once

#include <span>
#include <string>

namespace ballast::cuda {

// Compute capability: {9, 0} is sm_90.
struct Architecture {
  int major = 0;
  int minor = 0;
};

// Machine code for X.y runs on X.z, z >= y, and nowhere else (CUDA C++ Programming Guide, "Binary
// compatibility").
constexpr bool RunsOn(Architecture code, Architecture gpu) {
  return code.major == gpu.major && code.minor <= gpu.minor;
}

// "sm_80, sm_90"
std::string NamesOf(std::span<const Architecture> architectures);

// What kernels are compiled for (kernels/CMakeLists.txt).
inline constexpr Architecture kCompiledFor[] = {{8, 0}, {9, 0}, {10, 0}};

}  // namespace ballast::cuda
