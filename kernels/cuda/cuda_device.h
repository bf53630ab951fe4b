// The GPUs of this machine as a device: rank r of a process runs on GPU r (kernels/device.h). The
// build decides what stands behind it: CUDA, CUDA's emulator on this CPU, or nothing.
#pragma once

#include <string>
#include <vector>

#include "kernels/device.h"

namespace ballast {

struct GpuSearch {
  const Device* device = nullptr;  // null: see `problem`
  std::string problem;             // no such build, no driver, no GPU, or one that cannot run this
  std::vector<std::string> gpus;   // what each is, for the log: "NVIDIA H100 80GB HBM3, sm_90"
};

// Looks once; later calls give the same answer. Any thread.
const GpuSearch& FindGpus();

}  // namespace ballast
