// Packed weights: panels of 16 outputs, laid out as DotTile wants them (inner_loops.h), the last
// one filled with zeros.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/number.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/stream.h"
#include "kernels/cpu/verbs.h"

namespace ballast::cpu {
namespace {

void PackF32(const HostMatrix& in, int64_t first, int64_t lanes, float* panel) {
  for (int64_t k = 0; k < in.cols; ++k) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      panel[k * kLanes + lane] =
          LoadUnaligned(in.data, in.type, (first + lane) * in.row_stride + k * in.col_stride);
    }
  }
}

void PackBf16(const HostMatrix& in, int64_t first, int64_t lanes, uint16_t* panel) {
  for (int64_t k = 0; k < in.cols; ++k) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const float value =
          LoadUnaligned(in.data, in.type, (first + lane) * in.row_stride + k * in.col_stride);
      panel[(k / 2 * kLanes + lane) * 2 + k % 2] = ToBf16(value);
    }
  }
}

// The common case, a pair at a time: bf16 as published, k contiguous.
void CopyBf16Pairs(const HostMatrix& in, int64_t first, int64_t lanes, uint16_t* panel) {
  const char* source[kLanes];
  for (int64_t lane = 0; lane < lanes; ++lane) {
    source[lane] = At(in.data, in.type, (first + lane) * in.row_stride);
  }
  for (int64_t pair = 0; pair < in.cols / 2; ++pair) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      std::memcpy(panel + (pair * kLanes + lane) * 2, source[lane] + pair * 4, 4);
    }
  }
  if (in.cols % 2 != 0) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      std::memcpy(panel + (in.cols / 2 * kLanes + lane) * 2, source[lane] + (in.cols - 1) * 2, 2);
    }
  }
}

}  // namespace

size_t PackedBytes(DType type, int64_t n, int64_t k) {
  return static_cast<size_t>(NumPanels(n) * PanelBytes(type, k));
}

void Pack(Stream stream, HostMatrix in, PackedMatrix out) {
  const int64_t panel_bytes = PanelBytes(out.type, out.k);
  StreamOf(stream).pool.For(NumPanels(out.n), [&](int64_t p, int) {
    char* const panel = static_cast<char*>(out.data) + p * panel_bytes;
    const int64_t first = p * kLanes;
    const int64_t lanes = std::min(kLanes, out.n - first);
    if (lanes < kLanes || out.k % 2 != 0) std::memset(panel, 0, static_cast<size_t>(panel_bytes));
    if (out.type == DType::kF32) {
      PackF32(in, first, lanes, reinterpret_cast<float*>(panel));
    } else if (in.type == DType::kBF16 && in.col_stride == 1) {
      CopyBf16Pairs(in, first, lanes, reinterpret_cast<uint16_t*>(panel));
    } else {
      PackBf16(in, first, lanes, reinterpret_cast<uint16_t*>(panel));
    }
  });
}

void Embed(Stream stream, const PackedMatrix& table, const int32_t* ids, MatView out) {
  const int64_t panel_bytes = PanelBytes(table.type, table.k);
  StreamOf(stream).pool.For(out.rows, [&](int64_t row, int) {
    const char* panel = static_cast<const char*>(table.data) + ids[row] / kLanes * panel_bytes;
    const int64_t lane = ids[row] % kLanes;
    float* const to = static_cast<float*>(out.data) + row * out.stride;
    if (table.type == DType::kF32) {
      const float* from = reinterpret_cast<const float*>(panel) + lane;
      for (int64_t k = 0; k < table.k; ++k) to[k] = from[k * kLanes];
    } else {
      const uint16_t* from = reinterpret_cast<const uint16_t*>(panel) + lane * 2;
      for (int64_t k = 0; k < table.k; ++k) to[k] = FromBf16(from[k / 2 * kLanes * 2 + k % 2]);
    }
  });
}

}  // namespace ballast::cpu
