// One block of device memory for all weights: a model has up to a hundred thousand matrices, more
// than a process may have mappings.
#pragma once

#include <cstddef>
#include <vector>

#include "engine/checkpoint/checkpoint.h"
#include "engine/model/weight_list.h"
#include "kernels/device.h"

namespace ballast {

// Bytes that one weight takes from the arena.
size_t PlacedBytes(const WeightSource& source, DType type, const Device& device, Compute compute);

// What all of `list` takes. A tensor's type is the checkpoint's, or `fallback` where there is none.
size_t ArenaBytes(const std::vector<WeightSource>& list, const Checkpoint* checkpoint,
                  DType fallback, const Device& device, Compute compute);

}  // namespace ballast
