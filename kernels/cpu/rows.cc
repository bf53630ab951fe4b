// Verbs that work on each row by itself.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/number.h"
#include "kernels/cpu/stream.h"
#include "kernels/cpu/verbs.h"

namespace ballast::cpu {
namespace {

// Elements worth an item of their own: waking another thread costs about as much as these.
constexpr int64_t kElementsPerItem = 16384;

// body(row) for every row, several to an item.
template <class Body>
void ForRows(Stream stream, int64_t rows, int64_t elements_per_row, const Body& body) {
  const int64_t rows_per_item =
      std::max<int64_t>(1, kElementsPerItem / std::max<int64_t>(1, elements_per_row));
  const int64_t items = (rows + rows_per_item - 1) / rows_per_item;
  StreamOf(stream).pool.For(items, [&](int64_t item, int) {
    const int64_t end = std::min(rows, (item + 1) * rows_per_item);
    for (int64_t row = item * rows_per_item; row < end; ++row) body(row);
  });
}

// One head: the pair (a, b) turns by the angle whose cosine and sine are c and s.
template <bool kInterleaved, DType kType>
void Turn(const float* x, const float* cos_sin, int64_t half, void* out) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = kInterleaved ? x[2 * i] : x[i];
    const float b = kInterleaved ? x[2 * i + 1] : x[i + half];
    const float c = cos_sin[i];
    const float s = cos_sin[half + i];
    StoreFloat(out, kType, i, a * c - b * s);
    StoreFloat(out, kType, i + half, b * c + a * s);
  }
}

using TurnLoop = void (*)(const float* x, const float* cos_sin, int64_t half, void* out);

TurnLoop TurnLoopFor(bool interleaved, DType type) {
  if (type == DType::kF32) return interleaved ? Turn<true, DType::kF32> : Turn<false, DType::kF32>;
  return interleaved ? Turn<true, DType::kBF16> : Turn<false, DType::kBF16>;
}

}  // namespace

void RmsNorm(Stream stream, MatView x, const float* weight, float eps, MatView out) {
  const InnerLoops& loops = StreamOf(stream).loops;
  ForRows(stream, x.rows, x.cols, [&](int64_t row) {
    const float* from = static_cast<const float*>(x.data) + row * x.stride;
    loops.rms_norm(from, weight, x.cols, eps, out.type == DType::kBF16,
                   At(out.data, out.type, row * out.stride));
  });
}

void Convert(Stream stream, MatView x, MatView out) {
  const InnerLoops& loops = StreamOf(stream).loops;
  ForRows(stream, x.rows, x.cols, [&](int64_t row) {
    const char* from = At(static_cast<const void*>(x.data), x.type, row * x.stride);
    char* to = At(out.data, out.type, row * out.stride);
    if (x.type == out.type) {
      std::memmove(to, from, static_cast<size_t>(x.cols) * SizeOf(x.type));
    } else if (x.type == DType::kF32 && out.type == DType::kBF16) {
      loops.round(reinterpret_cast<const float*>(from), x.cols, reinterpret_cast<uint16_t*>(to));
    } else {
      for (int64_t i = 0; i < x.cols; ++i) StoreFloat(to, out.type, i, LoadFloat(from, x.type, i));
    }
  });
}

void Clamp(Stream stream, MatView x, float limit) {
  ForRows(stream, x.rows, x.cols, [&](int64_t row) {
    float* const values = static_cast<float*>(x.data) + row * x.stride;
    for (int64_t i = 0; i < x.cols; ++i) {
      const float low = values[i] < -limit ? -limit : values[i];
      values[i] = low > limit ? limit : low;
    }
  });
}

void Rope(Stream stream, HeadsView x, const float* cos_sin, int64_t rotary_dim, bool interleaved,
          HeadsView out) {
  const InnerLoops& loops = StreamOf(stream).loops;
  const TurnLoop turn = TurnLoopFor(interleaved, out.type);
  ForRows(stream, x.rows, x.heads * x.dim, [&](int64_t row) {
    for (int64_t head = 0; head < x.heads; ++head) {
      const float* from =
          static_cast<const float*>(x.data) + row * x.row_stride + head * x.head_stride;
      char* to = At(out.data, out.type, row * out.row_stride + head * out.head_stride);
      turn(from, cos_sin + row * rotary_dim, rotary_dim / 2, to);
      const int64_t rest = x.dim - rotary_dim;
      if (out.type == DType::kBF16) {
        loops.round(from + rotary_dim, rest, reinterpret_cast<uint16_t*>(to) + rotary_dim);
      } else {
        std::memmove(reinterpret_cast<float*>(to) + rotary_dim, from + rotary_dim,
                     static_cast<size_t>(rest) * sizeof(float));
      }
    }
  });
}

void CopyRows(Stream stream, const void* const* rows, MatView out) {
  ForRows(stream, out.rows, out.cols, [&](int64_t row) {
    std::memcpy(At(out.data, out.type, row * out.stride), rows[row],
                static_cast<size_t>(out.cols) * SizeOf(out.type));
  });
}

void Combine(Stream stream, const float* const* rows, const float* weights, int32_t k,
             MatView shared, MatView out) {
  const InnerLoops& loops = StreamOf(stream).loops;
  ForRows(stream, out.rows, out.cols * (k + 1), [&](int64_t row) {
    const float* extra = shared.data == nullptr
                             ? nullptr
                             : static_cast<const float*>(shared.data) + row * shared.stride;
    loops.combine(rows + row * k, weights + row * k, k, extra, out.cols,
                  static_cast<float*>(out.data) + row * out.stride);
  });
}

}  // namespace ballast::cpu
