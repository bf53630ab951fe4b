// What the files of the emulated runtime API share.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/emulator/streams.h"

namespace ballast::emulator {

Streams& AllStreams();

// Keeps an error for cudaGetLastError; gives it back.
cudaError_t Answer(cudaError_t error);

// What the current device has failed with before, for all calls that come later.
cudaError_t Sticky();

// Null: there is no such stream.
Stream* ToStream(cudaStream_t handle);

// How many graphs this thread is recording changes by `more`.
void CountCaptures(int more);

}  // namespace ballast::emulator
