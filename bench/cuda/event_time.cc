// bench/cuda/gpu_time.h by CUDA's events.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>

#include "bench/cuda/gpu_time.h"
#include "kernels/cuda/cuda_stream.h"

namespace ballast::bench {
namespace {

void Check(const char* what, const char* failure) {
  if (failure == nullptr) return;
  std::fprintf(stderr, "gpu_bench: %s: %s\n", what, failure);
  std::exit(1);
}

void Check(const char* what, cudaError_t error) {
  Check(what, error == cudaSuccess ? nullptr : cudaGetErrorString(error));
}

}  // namespace

double SecondsOf(const Device& device, Stream stream, int times, const std::function<void()>& run) {
  cuda::CudaStream& own = cuda::StreamOf(stream);
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  Check("stream", device.synchronize(stream));
  Check("cudaEventCreate", cudaEventCreate(&begin));
  Check("cudaEventCreate", cudaEventCreate(&end));
  Check("cudaEventRecord", cudaEventRecord(begin, own.queue()));
  for (int i = 0; i < times; ++i) run();
  Check("cudaEventRecord", cudaEventRecord(end, own.queue()));
  Check("kernels", device.synchronize(stream));
  float milliseconds = 0;
  Check("cudaEventElapsedTime", cudaEventElapsedTime(&milliseconds, begin, end));
  Check("cudaEventDestroy", cudaEventDestroy(begin));
  Check("cudaEventDestroy", cudaEventDestroy(end));
  return static_cast<double>(milliseconds) / 1000;
}

}  // namespace ballast::bench
