#include "tests/engine/checkpoint/fake_device.h"

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "engine/status.h"

namespace ballast {
namespace {

float Read(const char* at, DType type) {
  CHECK(type != DType::kF16);
  uint32_t bits = 0;
  std::memcpy(&bits, at, SizeOf(type));
  return std::bit_cast<float>(type == DType::kBF16 ? bits << 16 : bits);
}

void Pack(Stream, HostMatrix in, PackedMatrix out) {
  char* to = static_cast<char*>(out.data);
  for (int64_t i = 0; i < in.rows; ++i) {
    for (int64_t j = 0; j < in.cols; ++j) {
      const int64_t index = i * in.row_stride + j * in.col_stride;
      const float value =
          Read(static_cast<const char*>(in.data) + index * static_cast<int64_t>(SizeOf(in.type)),
               in.type);
      uint32_t bits = std::bit_cast<uint32_t>(value);
      // Rounds to nearest even.
      if (out.type == DType::kBF16) bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
      std::memcpy(to, &bits, SizeOf(out.type));
      to += SizeOf(out.type);
    }
  }
}

size_t KvBytes(const KvCache& cache) {
  const int64_t values = cache.kv_heads * (cache.k_dim + (cache.v_in_k ? 0 : cache.v_dim));
  return static_cast<size_t>(cache.blocks * kKvBlockTokens * values) * SizeOf(cache.type);
}

Device MakeFake() {
  Device device{};
  device.name = "fake";
  device.kernels = "fake";
  device.allocate = [](Stream, size_t bytes) {
    return bytes > kFakeDeviceBytes ? nullptr : std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  };
  device.release = [](void* data, size_t) { std::free(data); };
  device.upload = [](Stream, void* to, const void* from, size_t bytes) {
    std::memcpy(to, from, bytes);
  };
  device.synchronize = [](Stream) -> const char* { return nullptr; };
  device.packed_bytes = [](DType type, int64_t n, int64_t k) {
    return static_cast<size_t>(n * k) * SizeOf(type);
  };
  device.pack = Pack;
  device.kv_bytes = KvBytes;
  return device;
}

}  // namespace

const Device& FakeDevice() {
  static const Device device = MakeFake();
  return device;
}

std::vector<float> Unpack(const PackedMatrix& matrix) {
  std::vector<float> values;
  const char* at = static_cast<const char*>(matrix.data);
  for (int64_t i = 0; i < matrix.n * matrix.k; ++i, at += SizeOf(matrix.type)) {
    values.push_back(Read(at, matrix.type));
  }
  return values;
}

}  // namespace ballast
