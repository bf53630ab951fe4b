#include "kernels/cuda/pack.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/number.h"
#include "kernels/cuda/tile_plan.h"

namespace ballast::cuda {
namespace {

// `cols` elements from column `begin` of row `row`.
void PackPart(const HostMatrix& in, int64_t row, int64_t begin, int64_t cols, DType type,
              char* to) {
  const int64_t first = row * in.row_stride + begin * in.col_stride;
  if (in.type == type && in.col_stride == 1) {
    std::memcpy(to, At(in.data, type, first), static_cast<size_t>(cols) * SizeOf(type));
    return;
  }
  for (int64_t i = 0; i < cols; ++i) {
    StoreFloat(to, type, i, LoadUnaligned(in.data, in.type, first + i * in.col_stride));
  }
}

// Rows that are longer than a piece of pinned memory, a part at a time.
void PackLongRows(CudaStream& stream, const HostMatrix& in, const PackedMatrix& out) {
  const int64_t stride = PackedStride(out.k);
  const auto part = static_cast<int64_t>(StagingRing::kPieceBytes / SizeOf(out.type));
  for (int64_t row = 0; row < out.n; ++row) {
    for (int64_t begin = 0; begin < stride; begin += part) {
      const int64_t width = std::min(part, stride - begin);
      const size_t bytes = static_cast<size_t>(width) * SizeOf(out.type);
      stream.UploadFilled(At(out.data, out.type, row * stride + begin), bytes, [&](void* room) {
        std::memset(room, 0, bytes);
        PackPart(in, row, begin, std::clamp<int64_t>(out.k - begin, 0, width), out.type,
                 static_cast<char*>(room));
      });
    }
  }
}

}  // namespace

size_t PackedBytes(DType type, int64_t n, int64_t k) {
  return static_cast<size_t>(n * PackedStride(k)) * SizeOf(type);
}

void Pack(CudaStream& stream, const HostMatrix& in, const PackedMatrix& out) {
  const size_t row_bytes = PackedBytes(out.type, 1, out.k);
  if (row_bytes > StagingRing::kPieceBytes) return PackLongRows(stream, in, out);
  const auto step = static_cast<int64_t>(StagingRing::kPieceBytes / row_bytes);
  for (int64_t first = 0; first < out.n; first += step) {
    const int64_t rows = std::min(step, out.n - first);
    const size_t bytes = static_cast<size_t>(rows) * row_bytes;
    char* const to = static_cast<char*>(out.data) + static_cast<size_t>(first) * row_bytes;
    stream.UploadFilled(to, bytes, [&](void* room) {
      if (PackedStride(out.k) != out.k) std::memset(room, 0, bytes);
      for (int64_t i = 0; i < rows; ++i) {
        PackPart(in, first + i, 0, out.k, out.type,
                 static_cast<char*>(room) + static_cast<size_t>(i) * row_bytes);
      }
    });
  }
}

}  // namespace ballast::cuda
