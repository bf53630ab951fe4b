// A device that packs matrices row by row, so that tests can look at them.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/device.h"

namespace ballast {

// Memory and packing alone; the other verbs are null. `allocate` gives nothing above
// `kFakeDeviceBytes`.
inline constexpr size_t kFakeDeviceBytes = size_t{64} << 20;
const Device& FakeDevice();

// Elements of a matrix that FakeDevice packed, as floats, [n, k].
std::vector<float> Unpack(const PackedMatrix& matrix);

}  // namespace ballast
