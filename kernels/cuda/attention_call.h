// What the two kernels of attention share: a call's arguments, which rows and keys belong to what,
// and how a row ends. For attention.cu and attention_merge.cu.
#pragma once

#include <cstdint>

#include "kernels/cuda/arithmetic.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/device.h"

namespace ballast::cuda {

constexpr int kAttentionThreads = 128;

// [rows, heads, dim] without its type.
struct HeadRows {
  void* data;
  int64_t row_stride;
  int64_t head_stride;
};

struct AttentionCall {
  const char* cache;
  KvLayout layout;
  int k_dim;
  int v_dim;
  HeadRows q;
  int bf16_q_stride;  // of the tensor cores' queries in shared memory (attention_plan.h)
  HeadRows out;
  bool out_bf16;
  bool v_in_k;
  int64_t heads;
  int heads_per_kv;
  const AttentionSpan* spans;
  int64_t num_spans;
  bool one_row_each;  // every span has one row, and span s is row s
  const int32_t* block_tables;
  float scale;
  int64_t window;
  const float* sinks;
  int tile_rows;
  // When split: partitions [first_split, first_split + splits) of each tile, counted from its
  // first. Record (row * heads + head) * (splits + 1) + i is the i-th of them; the last is what all
  // before first_split merged to.
  int splits;
  int64_t first_split;
  float* sums;   // [records, v_dim]
  float2* ends;  // [records]: max, sum
};

// Keys by position.
struct KeyRange {
  int64_t begin;
  int64_t end;
};

// What the i-th row of a span attends to; its rows are its queries by heads_per_kv.
__device__ inline KeyRange KeysOf(const AttentionCall& call, const AttentionSpan& span, int64_t i) {
  KeyRange keys;
  keys.end = span.first_position + i / call.heads_per_kv + 1;
  keys.begin = call.window > 0 && call.window < keys.end ? keys.end - call.window : 0;
  return keys;
}

// The partition in which the tile of a span's i-th row begins.
__device__ inline int64_t FirstPartition(const AttentionCall& call, const AttentionSpan& span,
                                         int64_t i) {
  return KeysOf(call, span, i / call.tile_rows * call.tile_rows).begin / kAttentionPartition;
}

// The one span for which is_in(span, its number) holds; -1 if there is none. All threads of the
// block call it.
template <typename IsIn>
__device__ int64_t FindSpan(const AttentionCall& call, const IsIn& is_in) {
  SHARED_ARRAY(int64_t, found, 1);
  if (threadIdx.x == 0) found[0] = -1;
  __syncthreads();
  for (int64_t s = threadIdx.x; s < call.num_spans; s += kAttentionThreads) {
    if (is_in(call.spans[s], s)) found[0] = s;
  }
  __syncthreads();
  return found[0];
}

// How a row's sums become its output: a sink merges as a partition of one key whose value is 0.
struct RowEnd {
  bool sink;
  float keep;
  float add;
  float sum;
};

__device__ inline RowEnd EndOf(const AttentionCall& call, int64_t head, float max, float sum) {
  RowEnd end;
  end.sink = call.sinks != nullptr;
  end.keep = 1.0f;
  end.add = 0.0f;
  end.sum = sum;
  if (!end.sink) return end;
  const float score = call.sinks[head];
  const float top = score > max ? score : max;
  end.keep = Exp(max - top);
  end.add = Exp(score - top);
  end.sum = __fmaf_rn(1.0f, end.add, sum * end.keep);
  return end;
}

__device__ inline void WriteOut(const AttentionCall& call, int64_t row, int64_t head, int64_t d,
                                const RowEnd& end, float sum) {
  if (end.sink) sum = __fmaf_rn(0.0f, end.add, sum * end.keep);
  const int64_t at = row * call.out.row_stride + head * call.out.head_stride + d;
  if (call.out_bf16) {
    Store(static_cast<uint16_t*>(call.out.data) + at, sum / end.sum);
  } else {
    Store(static_cast<float*>(call.out.data) + at, sum / end.sum);
  }
}

using AttentionKernel = void (*)(AttentionCall);
// Of attention_bf16.cu, for heads with so many values; grid, block and call as for attention.cu's.
AttentionKernel Bf16Kernel(int64_t v_dim);

// Merges what the kernels left of `rows` rows of q; attention_merge.cu.
cudaError_t LaunchMerge(cudaStream_t stream, const AttentionCall& call, int64_t rows);

}  // namespace ballast::cuda
