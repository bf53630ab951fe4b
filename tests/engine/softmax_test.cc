#include "engine/softmax.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace ballast {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(Softmax, ExponentialIsWithinTwoUnitsInTheLastPlace) {
  EXPECT_EQ(ExpNonPositive(0.0f), 1.0f);
  EXPECT_EQ(ExpNonPositive(-0.0f), 1.0f);
  for (float x = -87.0f; x < 0.0f; x += 0.00137f) {
    const double exact = std::exp(static_cast<double>(x));
    ASSERT_NEAR(ExpNonPositive(x), exact, exact * 2 * 0x1p-23) << x;
  }
}

TEST(Softmax, ExponentialOfTheVerySmallIsZero) {
  for (const float x : {-88.0f, -1e10f, std::numeric_limits<float>::lowest(), -kInfinity}) {
    EXPECT_EQ(ExpNonPositive(x), 0.0f);
  }
}

TEST(Softmax, TheLargestStandsAnywhere) {
  for (size_t size = 1; size < 70; ++size) {
    for (size_t place = 0; place < size; ++place) {
      std::vector<float> logits(size, -3.0f);
      logits[place] = -2.0f;
      ASSERT_EQ(MaxLogit(logits), -2.0f);
    }
  }
  EXPECT_EQ(MaxLogit({}), -kInfinity);
  EXPECT_EQ(MaxLogit(std::vector<float>(40, -kInfinity)), -kInfinity);
}

TEST(Softmax, SumsAgreeWithDoublePrecision) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 4.0f);
  for (const size_t size : {1u, 15u, 16u, 17u, 1000u}) {
    std::vector<float> logits(size);
    double expected = 0;
    for (float& logit : logits) {
      logit = normal(random);
    }
    const float max = MaxLogit(logits);
    for (const float logit : logits) {
      expected += std::exp(static_cast<double>(logit) - static_cast<double>(max));
    }
    // Each term is off by the exponential's 2 units and the rounding of the difference, which is
    // below 32 in size.
    EXPECT_NEAR(SumExp(logits, max), expected, expected * (2 * 0x1p-23 + 16 * 0x1p-23));
  }
}

}  // namespace
}  // namespace ballast
