#include "kernels/cuda/find_gpus.h"

#include <cuda_runtime_api.h>

#include <stdlib.h>

#include <algorithm>
#include <array>

namespace ballast::cuda {
namespace {

// 13000 -> "13.0", as CUDA counts.
std::string NameOfVersion(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string ProblemOf(cudaError_t error) {
  if (error == cudaErrorInsufficientDriver) {
    int driver = 0;
    cudaDriverGetVersion(&driver);
    const std::string needed = "CUDA " + NameOfVersion(CUDART_VERSION);
    if (driver == 0) return "no NVIDIA driver is installed, " + needed + " needs one";
    return "the NVIDIA driver is for CUDA " + NameOfVersion(driver) + ", expected " + needed +
           " or later";
  }
  if (error == cudaErrorNoDevice) {
    return "no GPU is visible (nvidia-smi -L lists them, CUDA_VISIBLE_DEVICES hides them)";
  }
  return cudaGetErrorString(error);
}

cudaError_t Ask(int number, Gpu& gpu) {
  cudaDeviceProp properties;
  const cudaError_t error = cudaGetDeviceProperties(&properties, number);
  if (error == cudaSuccess) {
    gpu = {static_cast<const char*>(properties.name), {properties.major, properties.minor}};
  }
  return error;
}

}  // namespace

std::string Describe(const Gpu& gpu) {
  return gpu.name + ", " + NamesOf(std::array{gpu.architecture});
}

std::vector<Gpu> ListGpus(std::string* problem) {
  // Kernels are loaded at the start: loading one at its first launch may wait for the GPU, while a
  // kernel of NCCL on it waits for another rank (NCCL's documentation, CUDA_MODULE_LOADING).
  setenv("CUDA_MODULE_LOADING", "EAGER", /*overwrite=*/0);
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count == 0) error = cudaErrorNoDevice;
  std::vector<Gpu> gpus(error == cudaSuccess ? static_cast<size_t>(count) : 0);
  for (int i = 0; i < count && error == cudaSuccess; ++i) {
    error = Ask(i, gpus[static_cast<size_t>(i)]);
  }
  if (error == cudaSuccess) return gpus;
  *problem = ProblemOf(error);
  return {};
}

std::string CheckGpus(const std::vector<Gpu>& gpus) {
  for (size_t i = 0; i < gpus.size(); ++i) {
    const Architecture& own = gpus[i].architecture;
    const std::string name = "GPU " + std::to_string(i) + " (" + Describe(gpus[i]) + ")";
    const bool runs = std::any_of(std::begin(kCompiledFor), std::end(kCompiledFor),
                                  [&](const Architecture& code) { return RunsOn(code, own); });
    if (!runs) return name + ": this build has code for " + NamesOf(kCompiledFor);
    const Architecture& first = gpus[0].architecture;
    if (own.major != first.major || own.minor != first.minor) {
      return name + ": expected the architecture of GPU 0 (" + Describe(gpus[0]) +
             "), for ranks compute the same bits; CUDA_VISIBLE_DEVICES chooses";
    }
  }
  return "";
}

}  // namespace ballast::cuda
