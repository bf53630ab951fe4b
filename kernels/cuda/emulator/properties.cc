// What CUDA's runtime API tells about the emulated machine and about errors.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <string>

#include "kernels/cuda/emulator/machine.h"

// NOLINTBEGIN(readability-identifier-naming): CUDA's names.

using ballast::emulator::FaultOfDevice;
using ballast::emulator::Machine;
using ballast::emulator::MachineOptions;

cudaError_t cudaDriverGetVersion(int* version) {
  *version = Machine::Get().options().driver_version;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const MachineOptions& options = Machine::Get().options();
  if (device < 0 || device >= options.devices) return cudaErrorInvalidDevice;
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "emulated GPU (this CPU)");
  properties->major = options.major;
  properties->minor = options.minor;
  properties->totalGlobalMem = options.bytes_per_device;
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t error) {
  thread_local char text[512];
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorInvalidMemcpyDirection:
      return "invalid copy direction for memcpy";
    case cudaErrorLaunchFailure:
      // The emulator knows more than a GPU would tell.
      std::snprintf(text, sizeof text, "unspecified launch failure: %s", FaultOfDevice().c_str());
      return text;
    default:
      std::snprintf(text, sizeof text, "CUDA error %d", static_cast<int>(error));
      return text;
  }
}

// NOLINTEND(readability-identifier-naming)
