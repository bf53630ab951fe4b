#include <gtest/gtest.h>

#include "tests/kernels/kernel_sets.h"

namespace ballast {
namespace {

class Pack : public KernelSets {};
INSTANTIATE_TEST_SUITE_P(All, Pack, ::testing::ValuesIn(kKernelSets), NameOfSet);

// What the packed matrix holds, row by row.
Matrix Unpack(const Runner& runner, const PackedMatrix& packed) {
  Matrix out(DType::kF32, packed.n, packed.k, 1);
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < packed.n; ++i) ids.push_back(i);
  runner->embed(runner.stream(), packed, ids.data(), out.View());
  return out;
}

TEST_P(Pack, EmbedReadsBackWhatWasPacked) {
  const Runner runner(GetParam(), 2);
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1, 1}, {16, 16}, {37, 21}, {64, 6}}) {
    for (const DType from : {DType::kF32, DType::kBF16}) {
      for (const DType to : {DType::kF32, DType::kBF16}) {
        const Matrix w = Matrix::Random(from, n, k, 1, 3);
        const Packed packed(runner, to, w);
        const Matrix out = Unpack(runner, packed.matrix());
        for (int64_t r = 0; r < n; ++r) {
          for (int64_t c = 0; c < k; ++c) {
            const float x = w.Get(r, c);
            ASSERT_EQ(out.Get(r, c), to == DType::kBF16 ? FromBf16(ToBf16(x)) : x);
          }
        }
      }
    }
  }
}

TEST_P(Pack, TakesTransposedInterleavedAndUnalignedSources) {
  const Runner runner(GetParam());
  const int64_t n = 19;
  const int64_t k = 11;
  const std::vector<float> values = RandomFloats(2 * n * k, 2);
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
    const size_t size = SizeOf(type);
    std::vector<char> bytes(values.size() * size + 1);
    std::vector<float> held;
    for (size_t i = 0; i < values.size(); ++i) {
      // Sixteen bits of a small f16 are those of its value; any pattern will do.
      const uint16_t half = static_cast<uint16_t>(i * 37 % 0x7C00);
      const uint16_t bits = type == DType::kF16 ? half : ToBf16(values[i]);
      if (type == DType::kF32) std::memcpy(bytes.data() + 1 + i * size, &values[i], size);
      if (type != DType::kF32) std::memcpy(bytes.data() + 1 + i * size, &bits, size);
      held.push_back(type == DType::kF32    ? values[i]
                     : type == DType::kBF16 ? FromBf16(bits)
                                            : FromF16(bits));
    }
    // Odd columns of a [k, 2n] matrix, transposed.
    const HostMatrix source{bytes.data() + 1 + size, type, n, k, 2, 2 * n};
    Memory memory(runner.device(), runner->packed_bytes(DType::kF32, n, k));
    const PackedMatrix packed{memory.data(), DType::kF32, n, k};
    runner->pack(runner.stream(), source, packed);
    const Matrix out = Unpack(runner, packed);
    for (int64_t r = 0; r < n; ++r) {
      for (int64_t c = 0; c < k; ++c) {
        ASSERT_EQ(out.Get(r, c), held[static_cast<size_t>(c * 2 * n + r * 2 + 1)]);
      }
    }
  }
}

}  // namespace
}  // namespace ballast
