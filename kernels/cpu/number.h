// bf16 and f16 as bits. Not for the instruction-set files (see inner_loops.h).
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "kernels/device.h"

namespace ballast {

inline float FromBf16(uint16_t x) { return std::bit_cast<float>(static_cast<uint32_t>(x) << 16); }

// Nearest even; NaN stays NaN.
inline uint16_t ToBf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

inline float FromF16(uint16_t x) {
  const uint32_t sign = static_cast<uint32_t>(x & 0x8000) << 16;
  const uint32_t magnitude = x & 0x7FFF;
  if (magnitude >= 0x7C00) return std::bit_cast<float>(sign | 0x7F800000 | (magnitude << 13));
  // As bits of a float the value is 2^112 too small; the product is exact, subnormals included.
  const float value = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
}

inline float LoadFloat(const void* data, DType type, int64_t i) {
  switch (type) {
    case DType::kF32:
      return static_cast<const float*>(data)[i];
    case DType::kBF16:
      return FromBf16(static_cast<const uint16_t*>(data)[i]);
    case DType::kF16:
      return FromF16(static_cast<const uint16_t*>(data)[i]);
  }
  return 0.0f;
}

// As LoadFloat, from memory of any alignment.
inline float LoadUnaligned(const void* data, DType type, int64_t i) {
  const char* at = static_cast<const char*>(data) + i * static_cast<int64_t>(SizeOf(type));
  if (type == DType::kF32) {
    float value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return type == DType::kBF16 ? FromBf16(bits) : FromF16(bits);
}

// type is kF32 or kBF16.
inline void StoreFloat(void* data, DType type, int64_t i, float x) {
  if (type == DType::kF32) {
    static_cast<float*>(data)[i] = x;
  } else {
    static_cast<uint16_t*>(data)[i] = ToBf16(x);
  }
}

// The address of element i.
inline const char* At(const void* data, DType type, int64_t i) {
  return static_cast<const char*>(data) + i * static_cast<int64_t>(SizeOf(type));
}
inline char* At(void* data, DType type, int64_t i) {
  return static_cast<char*>(data) + i * static_cast<int64_t>(SizeOf(type));
}

constexpr int64_t RoundUp(int64_t x, int64_t multiple) {
  return (x + multiple - 1) / multiple * multiple;
}

}  // namespace ballast
