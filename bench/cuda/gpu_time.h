// How long a GPU takes for what a stream is given. The build decides whose clock that is: CUDA's
// events, or this machine's around an emulated GPU, which says nothing of a real one.
#pragma once

#include <functional>

#include "kernels/device.h"

namespace ballast::bench {

// Seconds of `times` calls of `run`, each of which gives the stream work. Ends the program when
// that fails.
double SecondsOf(const Device& device, Stream stream, int times, const std::function<void()>& run);

}  // namespace ballast::bench
