#include "engine/model/finite.h"

#include <cstring>
#include <utility>

namespace ballast {
namespace {

template <typename Bits>
Bits BitsAt(const char* run, int64_t index) {
  Bits bits;
  std::memcpy(&bits, run + static_cast<size_t>(index) * sizeof(Bits), sizeof(bits));
  return bits;
}

// The first of `count` elements whose exponent is all ones. Counted first, found after: the loop
// without an exit is one that compilers make vectors of, and almost always it finds none.
template <typename Bits>
std::optional<int64_t> FirstInRun(const char* run, int64_t count, Bits exponent) {
  int64_t odd = 0;
  for (int64_t i = 0; i < count; ++i) {
    odd += (BitsAt<Bits>(run, i) & exponent) == exponent ? 1 : 0;
  }
  if (odd == 0) return std::nullopt;
  int64_t i = 0;
  while ((BitsAt<Bits>(run, i) & exponent) != exponent) ++i;
  return i;
}

std::optional<int64_t> FirstInRun(const char* run, int64_t count, DType type) {
  switch (type) {
    case DType::kF32:
      return FirstInRun<uint32_t>(run, count, 0x7f800000u);
    case DType::kF16:
      return FirstInRun<uint16_t>(run, count, 0x7c00u);
    default:
      return FirstInRun<uint16_t>(run, count, 0x7f80u);
  }
}

}  // namespace

std::optional<int64_t> FirstNotFinite(const TensorView& tensor, const WeightSource& source) {
  int64_t rows = source.rows;
  int64_t cols = source.cols;
  int64_t row_stride = source.row_stride;
  int64_t col_stride = source.col_stride;
  if (row_stride == 1) {  // a vector, or a transposed part: its columns lie in one piece
    std::swap(rows, cols);
    std::swap(row_stride, col_stride);
  }
  const bool whole = cols == 1 || col_stride == 1;
  const int64_t run = whole ? cols : 1;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; col += run) {
      const int64_t begin = source.offset + row * row_stride + col * col_stride;
      const char* at =
          static_cast<const char*>(tensor.data) + static_cast<size_t>(begin) * SizeOf(tensor.type);
      if (const auto found = FirstInRun(at, run, tensor.type)) return begin + *found;
    }
  }
  return std::nullopt;
}

}  // namespace ballast
