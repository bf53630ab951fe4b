#include "engine/model/rope.h"

#include <cmath>
#include <random>

#include "gtest/gtest.h"

namespace ballast {
namespace {

TEST(ComputeCosSin, IsTheCosineAndSineOfTheFloatAngle) {
  RopeFrequencies frequencies;
  frequencies.inverse = {1.0f, 0.31622776f, 0.1f, 1e-4f};
  frequencies.magnitude = 1.25f;
  std::vector<int32_t> positions = {0, 1, 2, 3, 4, 5, 100, 1000, 163839, 1000000};
  std::mt19937 random(1);
  for (int i = 0; i < 1000; ++i) positions.push_back(static_cast<int32_t>(random() % (1 << 20)));
  std::vector<float> out(positions.size() * 8);
  ComputeCosSin(frequencies, positions, out.data());
  for (size_t p = 0; p < positions.size(); ++p) {
    for (size_t i = 0; i < 4; ++i) {
      const double angle = static_cast<float>(positions[p]) * frequencies.inverse[i];
      // One rounding to float and one product: 2 half-ulps of values up to 1.25.
      EXPECT_NEAR(out[p * 8 + i], 1.25 * std::cos(angle), 2e-7);
      EXPECT_NEAR(out[p * 8 + 4 + i], 1.25 * std::sin(angle), 2e-7);
    }
  }
}

}  // namespace
}  // namespace ballast
