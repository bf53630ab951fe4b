// Numbers of 8 bits: signed integers and OCP's E4M3 floats, from bits, alike on the GPU and in the
// emulator. Reference: OCP 8-bit Floating Point Specification 1.0, sections 5.1 and 5.2.
#pragma once

#include <cstdint>

#include "kernels/cuda/platform.h"

namespace ballast::cuda {

constexpr float kMostInt8 = 127.0f;  // -128 is not used
constexpr float kMostE4M3 = 448.0f;  // there are no infinities

// Nearest even, cut off at +-127. x is no NaN.
__device__ inline uint8_t ToInt8(float x) {
  x = x < -kMostInt8 ? -kMostInt8 : x;
  x = x > kMostInt8 ? kMostInt8 : x;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  return static_cast<uint8_t>(__float_as_uint(x + kRound) & 0xffu);
}

__device__ inline float FromInt8(uint8_t code) {
  return static_cast<float>(static_cast<int8_t>(code));
}

// Nearest even, cut off at +-448, infinities too; NaN is 0x7f or 0xff.
__device__ inline uint8_t ToE4M3(float x) {
  const uint32_t bits = __float_as_uint(x);
  const uint32_t sign = bits >> 24 & 0x80u;
  const uint32_t size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) return static_cast<uint8_t>(sign | 0x7fu);
  if (size >= 0x43e00000u) return static_cast<uint8_t>(sign | 0x7eu);  // 448
  if (size < 0x3c800000u) {                                            // 2^-6, the least normal one
    // Subnormals are multiples of 2^-9; adding 2^23 rounds to an integer. 8 is the least normal.
    const float multiple = __uint_as_float(size) * 512.0f + 8388608.0f;
    return static_cast<uint8_t>(sign | (__float_as_uint(multiple) & 0xfu));
  }
  // Keep 3 bits of 23; a carry goes into the exponent, whose bias becomes 7 from 127.
  const uint32_t rounded = (size + 0x7ffffu + (size >> 20 & 1u)) >> 20;
  return static_cast<uint8_t>(sign | (rounded - (120u << 3)));
}

__device__ inline float FromE4M3(uint8_t code) {
  const uint32_t sign = (code & 0x80u) << 24;
  const uint32_t size = code & 0x7fu;
  if (size == 0x7fu) return __uint_as_float(sign | 0x7fc00000u);
  if (size < 8u) {
    const float value = static_cast<float>(size) * 0x1p-9f;
    return __uint_as_float(sign | __float_as_uint(value));
  }
  return __uint_as_float(sign | ((size + (120u << 3)) << 20));
}

}  // namespace ballast::cuda
