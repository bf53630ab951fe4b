// The CPU as a device.
#pragma once

#include <string_view>

#include "kernels/device.h"

namespace ballast {

// The table whose inner loops are named `kernels`: "reference", "avx2", "avx512", or "auto" for the
// widest that this processor runs. Null when the name is unknown or the processor lacks it.
//
// All sets compute the same bits, but for bf16 by bf16 products of "avx512": it uses vdpbf16ps
// where the processor has it. "avx512-nobf16" does not; "avx512" on a processor without that
// instruction is this set, and says so in Device::kernels.
const Device* FindCpuDevice(std::string_view kernels);

// "reference, avx2, avx512": what this processor can run, for messages.
const char* CpuKernelSets();

}  // namespace ballast
