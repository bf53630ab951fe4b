#include "engine/model/rope.h"

#include <cmath>

namespace ballast {
namespace {

struct SinCos {
  double sin;
  double cos;
};

// Cody-Waite reduction by pi/2 in two parts (the first product is exact for quotients below 2^20),
// then Taylor polynomials on [-pi/4, pi/4], whose first dropped terms are below 3e-14. Multiplies
// and adds only, so every processor gives the same bits.
SinCos ExactSinCos(double angle) {
  constexpr double kHalfPiHigh = 1.57079632673412561417e+00;  // 33 bits of pi/2
  constexpr double kHalfPiLow = 6.07710050650619224932e-11;
  const double quotient = std::nearbyint(angle * 0.63661977236758134308);
  const double x = (angle - quotient * kHalfPiHigh) - quotient * kHalfPiLow;
  const double z = x * x;
  const double sin =
      x + x * z *
              (-1.0 / 6 +
               z * (1.0 / 120 +
                    z * (-1.0 / 5040 +
                         z * (1.0 / 362880 + z * (-1.0 / 39916800 + z * (1.0 / 6227020800.0))))));
  const double cos =
      1.0 + z * (-0.5 + z * (1.0 / 24 +
                             z * (-1.0 / 720 +
                                  z * (1.0 / 40320 +
                                       z * (-1.0 / 3628800 +
                                            z * (1.0 / 479001600 + z * (-1.0 / 87178291200.0)))))));
  switch (static_cast<int64_t>(quotient) & 3) {
    case 0:
      return {sin, cos};
    case 1:
      return {cos, -sin};
    case 2:
      return {-sin, -cos};
    default:
      return {-cos, sin};
  }
}

}  // namespace

void ComputeCosSin(const RopeFrequencies& frequencies, std::span<const int32_t> positions,
                   float* out) {
  const size_t half = frequencies.inverse.size();
  for (const int32_t position : positions) {
    for (size_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(position) * frequencies.inverse[i];
      const SinCos value = ExactSinCos(angle);
      out[i] = static_cast<float>(value.cos) * frequencies.magnitude;
      out[half + i] = static_cast<float>(value.sin) * frequencies.magnitude;
    }
    out += 2 * half;
  }
}

}  // namespace ballast
