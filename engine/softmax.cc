#include "engine/softmax.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace ballast {
namespace {

// Sums run in this many interleaved lanes, so that the compiler may use vectors and the order still
// depends on the length alone.
constexpr size_t kLanes = 16;

// exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln 2 / 2; Taylor's series to r^7 leaves a
// relative error below 2^-27. No branches, so that loops over it become vector loops.
inline float Exp(float x) {
  // Here n is -127, whose power of two has the bits of zero.
  constexpr float kSmallest = -88.0f;
  constexpr float kLog2E = 1.44269504f;
  // ln 2 in two parts; the first has so few bits that n times it is exact.
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  constexpr float kRounder = 12582912.0f;
  const float clamped = x > kSmallest ? x : kSmallest;
  const float shifted = clamped * kLog2E + kRounder;
  const float n = shifted - kRounder;
  const float r = (clamped - n * kLn2High) - n * kLn2Low;
  float series = 1.0f / 5040;
  series = series * r + 1.0f / 720;
  series = series * r + 1.0f / 120;
  series = series * r + 1.0f / 24;
  series = series * r + 1.0f / 6;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRounder);
  return series * std::bit_cast<float>((exponent + 127) << 23);
}

// Adds values[i] to lane i % kLanes.
void AddToLanes(std::span<const float> values, double* lanes) {
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += static_cast<double>(values[i + lane]);
    }
  }
  for (; i < values.size(); ++i) {
    lanes[i % kLanes] += static_cast<double>(values[i]);
  }
}

double SumOfLanes(double* lanes) {
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t lane = 0; lane < half; ++lane) {
      lanes[lane] += lanes[lane + half];
    }
  }
  return lanes[0];
}

}  // namespace

float ExpNonPositive(float x) { return Exp(x); }

float MaxLogit(std::span<const float> logits) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -std::numeric_limits<float>::infinity());
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = logits[i + lane] > lanes[lane] ? logits[i + lane] : lanes[lane];
    }
  }
  for (; i < logits.size(); ++i) {
    lanes[0] = std::max(lanes[0], logits[i]);
  }
  return *std::max_element(lanes, lanes + kLanes);
}

double SumExp(std::span<const float> logits, float max) {
  // Exponentials piece by piece through a buffer: floats and doubles in one loop defeat the
  // vectorizer.
  constexpr size_t kPiece = 16 * kLanes;
  double lanes[kLanes] = {};
  float piece[kPiece];
  for (size_t begin = 0; begin < logits.size(); begin += kPiece) {
    const size_t size = std::min(kPiece, logits.size() - begin);
    for (size_t i = 0; i < size; ++i) {
      piece[i] = Exp(logits[begin + i] - max);
    }
    AddToLanes(std::span(piece, size), lanes);
  }
  return SumOfLanes(lanes);
}

}  // namespace ballast
