// The step loop's promise: with warm scratch, deciding allocates nothing.
#include <cstdlib>
#include <new>

#include "engine/moe/split.h"
#include "gtest/gtest.h"
#include "tests/engine/moe/balance_cases.h"

namespace {
thread_local int64_t allocations = 0;
}  // namespace

// Not inlined: g++ would see malloc's memory reach a delete that it does not know as ours.
[[gnu::noinline]] void* operator new(size_t bytes) {
  ++allocations;
  void* memory = std::malloc(bytes);
  if (memory == nullptr) {
    std::abort();
  }
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace ballast {
namespace {

TEST(Allocations, NoneInAssignAndSplitOnceWarm) {
  Random random(1);
  std::vector<Layer> layers;
  for (int i = 0; i < 20; ++i) {
    Layer layer = RandomLayer({8, 40, 7, 50, 7}, random);
    layer.costs.mode = BalanceMode::kSpill;
    layer.costs.max_imports = 3;
    layer.costs.floor_cost = i % 2 * 100;
    layer.costs.speed = RandomSpeeds(8, random);
    layers.push_back(std::move(layer));
  }
  AssignScratch scratch;
  Assignment assignment;
  SplitScratch split_scratch;
  RowSplit split;
  size_t spills = 0;
  for (int pass = 0; pass < 4; ++pass) {
    const int64_t before = allocations;
    for (const Layer& layer : layers) {
      Assign(layer.rows, layer.replicas, layer.costs, scratch, assignment);
      Split(layer.rows, layer.replicas, assignment, split_scratch, split);
      spills += assignment.spills.size();
    }
    EXPECT_TRUE(pass < 2 || allocations == before) << allocations - before;
  }
  EXPECT_GT(spills, 0u);
}

}  // namespace
}  // namespace ballast
