// The GPU's KV cache: where a token's keys and values lie, and moving blocks. That attention reads
// them there is for attention_test.cc.
#include "kernels/cuda/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tests/kernels/cuda/gpu_memory.h"

namespace ballast::cuda {
namespace {

constexpr int64_t kBlocks = 6;

KvCache CacheOf(DType type, bool v_in_k) {
  return {nullptr, type, kBlocks, v_in_k ? 1 : 3, 19, v_in_k ? 13 : 21, v_in_k};
}

std::vector<KvCache> Caches() {
  return {CacheOf(DType::kF32, false), CacheOf(DType::kF32, true), CacheOf(DType::kBF16, false),
          CacheOf(DType::kBF16, true)};
}

// A cache's bytes at random.
std::vector<char> RandomBytes(size_t bytes, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<char> data(bytes);
  for (char& byte : data) byte = static_cast<char>(random());
  return data;
}

class GpuKvCache : public testing::Test {
 protected:
  static std::vector<char> Read(const GpuMemory& memory, size_t bytes) {
    std::vector<char> data(bytes);
    memory.Read(data.data());
    return data;
  }
  const GpuStream stream_;
};

// Element d of a token's key, and of its value, as kv_cache.h has them.
float KeyAt(const KvCache& cache, const char* head, int64_t token, int64_t d) {
  const char* const step =
      head + (cache.type == DType::kF32 ? d : d / 2) * kKeyStepBytes + token * 4;
  return LoadFloat(step, cache.type, cache.type == DType::kF32 ? 0 : d % 2);
}
float ValueAt(const KvCache& cache, const char* head, int64_t token, int64_t d) {
  const KvLayout layout = KvLayoutOf(cache);
  const char* const values = head + layout.key_bytes;
  return cache.type == DType::kF32 ? LoadFloat(values, DType::kF32, token * layout.value_stride + d)
                                   : KeyAt(cache, values, token, d);
}

TEST_F(GpuKvCache, EveryElementLiesWhereTheLayoutSays) {
  for (KvCache cache : Caches()) {
    const std::vector<int32_t> slots = {5, 6, 80, 31, 47, 48, 95};
    const auto rows = static_cast<int64_t>(slots.size());
    const Matrix k = Matrix::Random(DType::kF32, rows, cache.kv_heads * cache.k_dim, 1, 2);
    const Matrix v = Matrix::Random(DType::kF32, rows, cache.kv_heads * cache.v_dim, 2, 1);
    GpuMatrix gpu_k(stream_, k);
    GpuMatrix gpu_v(stream_, v);
    const GpuMemory gpu_slots(stream_, slots);
    const GpuMemory memory(stream_, std::vector<char>(KvBytes(cache), '\xff'));
    cache.data = memory.as<void>();
    EXPECT_EQ(
        WriteKv(stream_.get(), cache, gpu_k.Heads(cache.kv_heads),
                cache.v_in_k ? HeadsView{} : gpu_v.Heads(cache.kv_heads), gpu_slots.as<int32_t>()),
        cudaSuccess);
    const std::vector<char> data = Read(memory, KvBytes(cache));
    const KvLayout layout = KvLayoutOf(cache);
    const auto stored = [&](float x) {
      return cache.type == DType::kBF16 ? FromBf16(ToBf16(x)) : x;
    };
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t slot = slots[static_cast<size_t>(row)];
      const int64_t token = slot % kKvBlockTokens;
      for (int64_t h = 0; h < cache.kv_heads; ++h) {
        const char* const head =
            data.data() + slot / kKvBlockTokens * layout.block_bytes + h * layout.head_bytes;
        for (int64_t d = 0; d < cache.k_dim; ++d) {
          ASSERT_EQ(KeyAt(cache, head, token, d), stored(k.Get(row, h * cache.k_dim + d)));
        }
        for (int64_t d = 0; d < cache.v_dim && !cache.v_in_k; ++d) {
          ASSERT_EQ(ValueAt(cache, head, token, d), stored(v.Get(row, h * cache.v_dim + d)));
        }
      }
    }
  }
}

TEST_F(GpuKvCache, ATokenLeavesItsNeighboursAsTheyWere) {
  for (KvCache cache : Caches()) {
    const std::vector<char> before = RandomBytes(KvBytes(cache), 3);
    const GpuMemory memory(stream_, before);
    cache.data = memory.as<void>();
    GpuMatrix k(stream_, Matrix::Random(DType::kF32, 1, cache.kv_heads * cache.k_dim, 4));
    GpuMatrix v(stream_, Matrix::Random(DType::kF32, 1, cache.kv_heads * cache.v_dim, 5));
    const GpuMemory slot(stream_, std::vector<int32_t>{18});
    EXPECT_EQ(WriteKv(stream_.get(), cache, k.Heads(cache.kv_heads), v.Heads(cache.kv_heads),
                      slot.as<int32_t>()),
              cudaSuccess);
    const std::vector<char> after = Read(memory, before.size());
    size_t changed = 0;
    for (size_t i = 0; i < before.size(); ++i) changed += before[i] != after[i] ? 1 : 0;
    const auto even = [](int64_t n) { return (n + 1) / 2 * 2; };  // bf16 come in pairs
    const int64_t dims = even(cache.k_dim) + (cache.v_in_k ? 0 : even(cache.v_dim));
    EXPECT_LE(changed, static_cast<size_t>(cache.kv_heads * dims) * SizeOf(cache.type));
    EXPECT_GT(changed, 0u);
  }
}

TEST_F(GpuKvCache, BlocksAreCopiedWhole) {
  for (KvCache cache : Caches()) {
    std::vector<char> want = RandomBytes(KvBytes(cache), 6);
    const GpuMemory memory(stream_, want);
    cache.data = memory.as<void>();
    const GpuMemory from(stream_, std::vector<int32_t>{4, 0});
    const GpuMemory to(stream_, std::vector<int32_t>{1, 5});
    EXPECT_EQ(CopyKvBlocks(stream_.get(), cache, from.as<int32_t>(), to.as<int32_t>(), 2),
              cudaSuccess);
    const int64_t bytes = KvLayoutOf(cache).block_bytes;
    std::copy_n(want.begin() + 4 * bytes, bytes, want.begin() + bytes);
    std::copy_n(want.begin(), bytes, want.begin() + 5 * bytes);
    EXPECT_EQ(Read(memory, want.size()), want);
  }
}

TEST_F(GpuKvCache, BlocksOfManyPiecesAreCopiedWhole) {
  KvCache cache{nullptr, DType::kF32, 3, 2, 130, 140, false};
  ASSERT_GT(KvLayoutOf(cache).block_bytes, 32 << 10);
  std::vector<char> want = RandomBytes(KvBytes(cache), 7);
  const GpuMemory memory(stream_, want);
  cache.data = memory.as<void>();
  const GpuMemory from(stream_, std::vector<int32_t>{2});
  const GpuMemory to(stream_, std::vector<int32_t>{1});
  EXPECT_EQ(CopyKvBlocks(stream_.get(), cache, from.as<int32_t>(), to.as<int32_t>(), 1),
            cudaSuccess);
  const int64_t bytes = KvLayoutOf(cache).block_bytes;
  std::copy_n(want.begin() + 2 * bytes, bytes, want.begin() + bytes);
  EXPECT_EQ(Read(memory, want.size()), want);
}

TEST_F(GpuKvCache, GatheredBlocksComeBackToOtherPlaces) {
  for (KvCache cache : Caches()) {
    std::vector<char> want = RandomBytes(KvBytes(cache), 8);
    const auto bytes = static_cast<size_t>(KvLayoutOf(cache).block_bytes);
    const GpuMemory memory(stream_, want);
    const GpuMemory staging(stream_, std::vector<char>(3 * bytes));
    cache.data = memory.as<void>();
    const GpuMemory from(stream_, std::vector<int32_t>{3, 1, 2});
    const GpuMemory to(stream_, std::vector<int32_t>{1, 2, 0});
    EXPECT_EQ(GatherKvBlocks(stream_.get(), cache, from.as<int32_t>(), 3, staging.as<void>()),
              cudaSuccess);
    EXPECT_EQ(ScatterKvBlocks(stream_.get(), cache, staging.as<void>(), to.as<int32_t>(), 3),
              cudaSuccess);
    const std::vector<char> before = want;
    const auto move = [&](size_t source, size_t target) {
      std::copy_n(before.data() + source * bytes, bytes, want.data() + target * bytes);
    };
    move(3, 1);
    move(1, 2);
    move(2, 0);
    EXPECT_EQ(Read(memory, want.size()), want);
  }
}

TEST_F(GpuKvCache, NothingToDoIsNoLaunch) {
  const KvCache cache = CacheOf(DType::kF32, false);
  EXPECT_EQ(WriteKv(stream_.get(), cache, {}, {}, nullptr), cudaSuccess);
  EXPECT_EQ(CopyKvBlocks(stream_.get(), cache, nullptr, nullptr, 0), cudaSuccess);
}

}  // namespace
}  // namespace ballast::cuda
