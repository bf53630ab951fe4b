// Choices of experts, for tests of what runs them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

namespace ballast {

struct Routing {
  int64_t rows;
  int32_t k;
  int32_t experts;
  std::vector<int32_t> ids;  // [rows, k]
};

// Every row chooses k of the first `wanted` experts; no row those that follow.
inline Routing RandomRouting(int64_t rows, int32_t k, int32_t experts, int32_t wanted,
                             uint32_t seed) {
  std::mt19937 random(seed);
  Routing routing{rows, k, experts, {}};
  std::vector<int32_t> all(static_cast<size_t>(wanted));
  std::iota(all.begin(), all.end(), 0);
  for (int64_t row = 0; row < rows; ++row) {
    std::shuffle(all.begin(), all.end(), random);
    routing.ids.insert(routing.ids.end(), all.begin(), all.begin() + k);
  }
  return routing;
}

// All rows choose one expert, with all of their choices.
inline Routing OneForAll(int64_t rows, int32_t k, int32_t experts, int32_t expert) {
  return {rows, k, experts, std::vector<int32_t>(static_cast<size_t>(rows * k), expert)};
}

// Spread evenly and not, with experts that nobody chose: first, last and in between.
inline std::vector<Routing> SomeRoutings(uint32_t seed) {
  std::vector<Routing> routings = {
      RandomRouting(1, 2, 40, 40, seed),
      RandomRouting(7, 3, 5, 5, seed + 1),
      RandomRouting(33, 2, 4, 3, seed + 2),
      RandomRouting(33, 4, 70, 60, seed + 3),
      RandomRouting(9, 1, 1, 1, seed + 4),
      OneForAll(33, 2, 40, 39),
      OneForAll(140, 1, 3, 1),
  };
  for (int32_t& id : routings[2].ids) ++id;
  return routings;
}

}  // namespace ballast
