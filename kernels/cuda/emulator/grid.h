// A kernel's launch: all of its blocks, in random order.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "kernels/cuda/emulator/block.h"

namespace ballast::emulator {

// What hardware refuses of a launch's shape, or "".
std::string CheckShape(const BlockShape& shape);

// Runs every thread of every block of `shape`; `body` calls the kernel. The seed decides the order
// of blocks, warps and lanes. Returns what was wrong, or "". Any thread; each has its own block.
std::string RunGrid(const BlockShape& shape, uint64_t seed, const std::function<void()>& body);

}  // namespace ballast::emulator
