#include "kernels/cuda/kv_cache.h"

#include "kernels/cuda/arithmetic.h"
#include "kernels/cuda/launch.h"

namespace ballast::cuda {
namespace {

constexpr int kWriteThreads = 128;
constexpr int kCopyThreads = 256;
constexpr int64_t kPieceBytes = int64_t{16} << 10;  // of a KV block, for one block of threads
constexpr int64_t kVectorBytes = sizeof(uint4);

struct Rows {
  const float* data;
  int64_t row_stride;
  int64_t head_stride;
};

Rows RowsOf(const HeadsView& view) {
  return {static_cast<const float*>(view.data), view.row_stride, view.head_stride};
}

__device__ void WriteKeys(const float* from, int64_t dims, int64_t token, float* to) {
  for (int64_t d = threadIdx.x; d < dims; d += kWriteThreads) {
    to[d * kKvBlockTokens + token] = from[d];
  }
}

__device__ void WriteKeys(const float* from, int64_t dims, int64_t token, uint16_t* to) {
  uint32_t* const pairs = reinterpret_cast<uint32_t*>(to);
  for (int64_t d = 2 * int64_t{threadIdx.x}; d < dims; d += 2 * kWriteThreads) {
    const uint32_t high = d + 1 < dims ? ToBf16(from[d + 1]) : 0;
    pairs[d / 2 * kKvBlockTokens + token] = high << 16 | ToBf16(from[d]);
  }
}

__device__ void WriteValues(const float* from, int64_t dims, int64_t token, int64_t stride,
                            float* to) {
  for (int64_t d = threadIdx.x; d < dims; d += kWriteThreads) to[token * stride + d] = from[d];
}

__device__ void WriteValues(const float* from, int64_t dims, int64_t token, int64_t, uint16_t* to) {
  WriteKeys(from, dims, token, to);
}

template <typename T>
__global__ void __launch_bounds__(kWriteThreads)
    WriteKvKernel(Rows k, int64_t k_dim, Rows v, int64_t v_dim, const int32_t* slots,
                  KvLayout layout, char* cache) {
  const int64_t row = blockIdx.x;
  const int64_t head = blockIdx.y;
  const int64_t token = slots[row] % kKvBlockTokens;
  char* const block =
      cache + slots[row] / kKvBlockTokens * layout.block_bytes + head * layout.head_bytes;
  WriteKeys(k.data + row * k.row_stride + head * k.head_stride, k_dim, token,
            reinterpret_cast<T*>(block));
  if (v.data == nullptr) return;
  const float* const from = v.data + row * v.row_stride + head * v.head_stride;
  WriteValues(from, v_dim, token, layout.value_stride,
              reinterpret_cast<T*>(block + layout.key_bytes));
}

// Without a list of blocks, they lie one after another.
__global__ void __launch_bounds__(kCopyThreads)
    CopyBlocksKernel(const char* from, const int32_t* from_blocks, char* to,
                     const int32_t* to_blocks, int64_t block_bytes) {
  const int64_t source = from_blocks != nullptr ? from_blocks[blockIdx.x] : blockIdx.x;
  const int64_t target = to_blocks != nullptr ? to_blocks[blockIdx.x] : blockIdx.x;
  const int64_t begin = blockIdx.y * kPieceBytes;
  const int64_t end = begin + kPieceBytes < block_bytes ? begin + kPieceBytes : block_bytes;
  for (int64_t at = begin + threadIdx.x * kVectorBytes; at < end;
       at += kCopyThreads * kVectorBytes) {
    StoreVector(to + target * block_bytes + at,
                LoadVector<uint4>(from + source * block_bytes + at));
  }
}

cudaError_t LaunchCopy(cudaStream_t stream, const KvCache& cache, const void* from,
                       const int32_t* from_blocks, void* to, const int32_t* to_blocks,
                       int64_t count) {
  if (count == 0) return cudaSuccess;
  const int64_t block_bytes = KvLayoutOf(cache).block_bytes;
  const int64_t pieces = (block_bytes + kPieceBytes - 1) / kPieceBytes;
  const LaunchShape shape{dim3(static_cast<unsigned>(count), static_cast<unsigned>(pieces)),
                          dim3(kCopyThreads)};
  return Launch("copy_kv_blocks", CopyBlocksKernel, shape, stream, static_cast<const char*>(from),
                from_blocks, static_cast<char*>(to), to_blocks, block_bytes);
}

}  // namespace

KvLayout KvLayoutOf(const KvCache& cache) {
  const bool bf16 = cache.type == DType::kBF16;
  const auto pairs = [](int64_t dims) { return (dims + 1) / 2; };
  KvLayout layout;
  layout.key_bytes = (bf16 ? pairs(cache.k_dim) : cache.k_dim) * kKeyStepBytes;
  layout.value_stride = bf16 || cache.v_in_k ? 0 : (cache.v_dim + 7) / 8 * 8;
  const int64_t value_bytes =
      bf16 ? pairs(cache.v_dim) * kKeyStepBytes
           : layout.value_stride * kKvBlockTokens * static_cast<int64_t>(sizeof(float));
  layout.head_bytes = layout.key_bytes + (cache.v_in_k ? 0 : value_bytes);
  layout.block_bytes = layout.head_bytes * cache.kv_heads;
  return layout;
}

size_t KvBytes(const KvCache& cache) {
  return static_cast<size_t>(cache.blocks * KvLayoutOf(cache).block_bytes);
}

cudaError_t WriteKv(cudaStream_t stream, const KvCache& cache, HeadsView k, HeadsView v,
                    const int32_t* slots) {
  if (k.rows == 0) return cudaSuccess;
  const LaunchShape shape{
      dim3(static_cast<unsigned>(k.rows), static_cast<unsigned>(cache.kv_heads)),
      dim3(kWriteThreads)};
  const Rows values = cache.v_in_k ? Rows{nullptr, 0, 0} : RowsOf(v);
  const auto kernel = cache.type == DType::kF32 ? WriteKvKernel<float> : WriteKvKernel<uint16_t>;
  return Launch("write_kv", kernel, shape, stream, RowsOf(k), cache.k_dim, values, cache.v_dim,
                slots, KvLayoutOf(cache), static_cast<char*>(cache.data));
}

cudaError_t CopyKvBlocks(cudaStream_t stream, const KvCache& cache, const int32_t* from_blocks,
                         const int32_t* to_blocks, int64_t count) {
  return LaunchCopy(stream, cache, cache.data, from_blocks, cache.data, to_blocks, count);
}

cudaError_t GatherKvBlocks(cudaStream_t stream, const KvCache& cache, const int32_t* blocks,
                           int64_t count, void* staging) {
  return LaunchCopy(stream, cache, cache.data, blocks, staging, nullptr, count);
}

cudaError_t ScatterKvBlocks(cudaStream_t stream, const KvCache& cache, const void* staging,
                            const int32_t* blocks, int64_t count) {
  return LaunchCopy(stream, cache, staging, nullptr, cache.data, blocks, count);
}

}  // namespace ballast::cuda
