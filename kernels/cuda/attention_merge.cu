#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_call.h"
#include "kernels/cuda/launch.h"

namespace ballast::cuda {
namespace {

// Merge i makes sums = part i * add + sums * keep, with `top` the largest score so far.
struct Merge {
  float keep;
  float add;
  float part_sum;
  float top;
};

// Every thread makes one merge; the running maximum before it is found anew by each.
__device__ void MakeMerges(const float2* parts, int count, const float2* before, Merge* merges) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kAttentionThreads) {
    float max = before != nullptr ? before->x : parts[0].x;
    for (int j = 0; j < i; ++j) max = parts[j].x > max ? parts[j].x : max;
    const float top = parts[i].x > max ? parts[i].x : max;
    merges[i].keep = Exp(max - top);
    merges[i].add = Exp(parts[i].x - top);
    merges[i].part_sum = parts[i].y;
    merges[i].top = top;
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kAttentionThreads) MergeKernel(const AttentionCall call) {
  SHARED_ARRAY(Merge, merges, kMaxAttentionSplits);
  const int64_t row = blockIdx.x;
  const int64_t head = blockIdx.y;
  const int64_t s =
      call.one_row_each ? row : FindSpan(call, [row](const AttentionSpan& span, int64_t) {
        return row >= span.row_begin && row < span.row_begin + span.rows;
      });
  if (s < 0) return;
  const AttentionSpan& span = call.spans[s];
  const int64_t i = (row - span.row_begin) * call.heads_per_kv + head % call.heads_per_kv;
  const KeyRange keys = KeysOf(call, span, i);
  // The row's partitions, as AttendKernel counts them in this launch.
  const int64_t origin = FirstPartition(call, span, i) + call.first_split;
  const int64_t first = keys.begin / kAttentionPartition - origin;
  const int64_t last = (keys.end - 1) / kAttentionPartition - origin;
  if (last < 0 || first >= call.splits) return;
  const int begin = static_cast<int>(first > 0 ? first : 0);
  const int count = static_cast<int>(last < call.splits ? last + 1 : call.splits) - begin;

  const int64_t records = (row * call.heads + head) * (call.splits + 1);
  const float2* const parts = call.ends + records + begin;
  const float* const part_sums = call.sums + (records + begin) * call.v_dim;
  float2* const state = call.ends + records + call.splits;
  float* const state_sums = call.sums + (records + call.splits) * call.v_dim;
  const bool continues = first < 0;
  MakeMerges(parts, count, continues ? state : nullptr, merges);

  const int from = continues ? 0 : 1;  // the first of all is taken as it is
  float sum = continues ? state->y : merges[0].part_sum;
  for (int m = from; m < count; ++m) {
    sum = __fmaf_rn(merges[m].part_sum, merges[m].add, sum * merges[m].keep);
  }
  const float max = merges[count - 1].top;
  const bool ends = last < call.splits;
  const RowEnd end = EndOf(call, head, max, sum);
  for (int d = static_cast<int>(threadIdx.x); d < call.v_dim; d += kAttentionThreads) {
    float x = continues ? state_sums[d] : part_sums[d];
    for (int m = from; m < count; ++m) {
      x = __fmaf_rn(part_sums[int64_t{m} * call.v_dim + d], merges[m].add, x * merges[m].keep);
    }
    if (ends) {
      WriteOut(call, row, head, d, end, x);
    } else {
      state_sums[d] = x;
    }
  }
  __syncthreads();  // all have read the state
  if (!ends && threadIdx.x == 0) *state = make_float2(max, sum);
}

}  // namespace

cudaError_t LaunchMerge(cudaStream_t stream, const AttentionCall& call, int64_t rows) {
  const LaunchShape shape{dim3(static_cast<unsigned>(rows), static_cast<unsigned>(call.heads)),
                          dim3(kAttentionThreads)};
  return Launch("attention_merge", MergeKernel, shape, stream, call);
}

}  // namespace ballast::cuda
