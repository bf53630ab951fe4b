#include "kernels/cuda/emulator/grid.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cuda/emulator/checkers.h"

namespace ballast::emulator {

std::string CheckShape(const BlockShape& shape) {
  const uint64_t threads = uint64_t{shape.block.x} * shape.block.y * shape.block.z;
  const uint64_t blocks = uint64_t{shape.grid.x} * shape.grid.y * shape.grid.z;
  if (threads == 0 || threads > kMaxThreadsPerBlock) {
    return "found " + std::to_string(threads) + " threads in a block, expected 1 to " +
           std::to_string(kMaxThreadsPerBlock);
  }
  if (shape.block.z > 64 || shape.grid.x > 0x7fffffffu || shape.grid.y > 65535 ||
      shape.grid.z > 65535) {
    return "found a dimension of the grid or block that is more than hardware takes";
  }
  if (blocks == 0) return "found a grid without blocks";
  if (shape.dynamic_shared_bytes > kMaxSharedBytes) {
    return "found " + std::to_string(shape.dynamic_shared_bytes) +
           " bytes of dynamic shared memory, expected at most " + std::to_string(kMaxSharedBytes);
  }
  return "";
}

std::string RunGrid(const BlockShape& shape, uint64_t seed, const std::function<void()>& body) {
  static thread_local Block block;
  std::string fault = CheckShape(shape);
  if (!fault.empty()) return fault;
  std::vector<unsigned> order(shape.grid.x * shape.grid.y * shape.grid.z);
  std::iota(order.begin(), order.end(), 0u);
  std::mt19937_64 random(seed);
  uint64_t end = 0;  // of the launch
  const std::function<void()> thread = [&] {
    body();
    Publish(&end);
  };
  std::shuffle(order.begin(), order.end(), random);
  for (const unsigned number : order) {
    const uint3 index = {number % shape.grid.x, number / shape.grid.x % shape.grid.y,
                         number / (shape.grid.x * shape.grid.y)};
    fault = block.Run(shape, index, random(), thread);
    if (!fault.empty()) break;
  }
  block.EndLaunch();
  Observe(&end);
  return fault;
}

}  // namespace ballast::emulator
