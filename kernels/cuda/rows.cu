#include "kernels/cuda/rows.h"

#include "kernels/cuda/arithmetic.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul.h"

namespace ballast::cuda {
namespace {

constexpr int kThreads = 256;

LaunchShape BlockPerRow(int64_t rows) {
  return {dim3(static_cast<unsigned>(rows)), dim3(kThreads)};
}

template <typename Out>
__global__ void __launch_bounds__(kThreads)
    RmsNormKernel(const float* x, int64_t x_stride, int64_t cols, const float* weight, float eps,
                  Out* out, int64_t out_stride) {
  SHARED_ARRAY(float, scale, 1);
  const float* const from = x + blockIdx.x * x_stride;
  Out* const to = out + blockIdx.x * out_stride;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < 32) {
    float squares = 0.0f;
    if (thread < kSumLanes) {
      for (int64_t i = thread; i < cols; i += kSumLanes) {
        squares = __fmaf_rn(from[i], from[i], squares);
      }
    }
    const float sum = SumOfLanes(squares);
    if (thread == 0) scale[0] = 1.0f / sqrtf(sum / static_cast<float>(cols) + eps);
  }
  __syncthreads();
  for (int64_t i = thread; i < cols; i += kThreads) Store(to + i, from[i] * scale[0] * weight[i]);
}

template <typename In, typename Out>
__global__ void __launch_bounds__(kThreads)
    ConvertKernel(const In* x, int64_t x_stride, int64_t cols, Out* out, int64_t out_stride) {
  const In* const from = x + blockIdx.x * x_stride;
  Out* const to = out + blockIdx.x * out_stride;
  for (int64_t i = threadIdx.x; i < cols; i += kThreads) Store(to + i, Load(from + i));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    EmbedKernel(const T* table, int64_t table_stride, const int32_t* ids, int64_t cols, float* out,
                int64_t out_stride) {
  const T* const from = table + ids[blockIdx.x] * table_stride;
  float* const to = out + blockIdx.x * out_stride;
  for (int64_t i = threadIdx.x; i < cols; i += kThreads) to[i] = Load(from + i);
}

__global__ void __launch_bounds__(kThreads)
    ClampKernel(float* x, int64_t stride, int64_t cols, float limit) {
  float* const values = x + blockIdx.x * stride;
  for (int64_t i = threadIdx.x; i < cols; i += kThreads) {
    const float low = values[i] < -limit ? -limit : values[i];
    values[i] = low > limit ? limit : low;
  }
}

struct RopeShape {
  int64_t heads;
  int64_t dim;
  int64_t rotary_dim;
  bool interleaved;
  int64_t x_row_stride;
  int64_t x_head_stride;
  int64_t out_row_stride;
  int64_t out_head_stride;
};

template <typename Out>
__global__ void __launch_bounds__(kThreads)
    RopeKernel(const float* x, const float* cos_sin, RopeShape shape, Out* out) {
  const int64_t half = shape.rotary_dim / 2;
  const int64_t rest = shape.dim - shape.rotary_dim;
  const float* const angles = cos_sin + blockIdx.x * shape.rotary_dim;
  for (int64_t item = threadIdx.x; item < shape.heads * (half + rest); item += kThreads) {
    const int64_t head = item / (half + rest);
    const int64_t i = item % (half + rest);
    const float* const from = x + blockIdx.x * shape.x_row_stride + head * shape.x_head_stride;
    Out* const to = out + blockIdx.x * shape.out_row_stride + head * shape.out_head_stride;
    if (i >= half) {
      Store(to + half + i, from[half + i]);
      continue;
    }
    const float a = shape.interleaved ? from[2 * i] : from[i];
    const float b = shape.interleaved ? from[2 * i + 1] : from[i + half];
    const float c = angles[i];
    const float s = angles[half + i];
    Store(to + i, a * c - b * s);
    Store(to + i + half, b * c + a * s);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    CopyRowsKernel(const void* const* rows, T* out, int64_t stride, int64_t cols) {
  const T* const from = static_cast<const T*>(rows[blockIdx.x]);
  T* const to = out + blockIdx.x * stride;
  for (int64_t i = threadIdx.x; i < cols; i += kThreads) to[i] = from[i];
}

__global__ void __launch_bounds__(kThreads)
    CombineKernel(const float* const* rows, const float* weights, int32_t k, const float* shared,
                  int64_t shared_stride, float* out, int64_t stride, int64_t cols) {
  const float* const* const from = rows + int64_t{blockIdx.x} * k;
  const float* const scale = weights + int64_t{blockIdx.x} * k;
  float* const to = out + blockIdx.x * stride;
  for (int64_t i = threadIdx.x; i < cols; i += kThreads) {
    float sum = 0.0f;
    for (int32_t j = 0; j < k; ++j) sum = __fmaf_rn(scale[j], from[j][i], sum);
    if (shared != nullptr) sum += shared[blockIdx.x * shared_stride + i];
    to[i] += sum;
  }
}

// The rest of the launches' arguments, by the type of elements.
template <typename Out>
cudaError_t LaunchRope(cudaStream_t stream, const HeadsView& x, const float* cos_sin,
                       const RopeShape& shape, void* out) {
  return Launch("rope", RopeKernel<Out>, BlockPerRow(x.rows), stream,
                static_cast<const float*>(x.data), cos_sin, shape, static_cast<Out*>(out));
}

template <typename In, typename Out>
cudaError_t LaunchConvert(cudaStream_t stream, const MatView& x, const MatView& out) {
  return Launch("convert", ConvertKernel<In, Out>, BlockPerRow(x.rows), stream,
                static_cast<const In*>(x.data), x.stride, x.cols, static_cast<Out*>(out.data),
                out.stride);
}

template <typename Out>
cudaError_t LaunchRmsNorm(cudaStream_t stream, const MatView& x, const float* weight, float eps,
                          const MatView& out) {
  return Launch("rms_norm", RmsNormKernel<Out>, BlockPerRow(x.rows), stream,
                static_cast<const float*>(x.data), x.stride, x.cols, weight, eps,
                static_cast<Out*>(out.data), out.stride);
}

template <typename T>
cudaError_t LaunchEmbed(cudaStream_t stream, const PackedMatrix& table, const int32_t* ids,
                        const MatView& out) {
  return Launch("embed", EmbedKernel<T>, BlockPerRow(out.rows), stream,
                static_cast<const T*>(table.data), PackedStride(table.k), ids, table.k,
                static_cast<float*>(out.data), out.stride);
}

template <typename T>
cudaError_t LaunchCopyRows(cudaStream_t stream, const void* const* rows, const MatView& out) {
  return Launch("copy_rows", CopyRowsKernel<T>, BlockPerRow(out.rows), stream, rows,
                static_cast<T*>(out.data), out.stride, out.cols);
}

}  // namespace

cudaError_t RmsNorm(cudaStream_t stream, MatView x, const float* weight, float eps, MatView out) {
  if (x.rows == 0) return cudaSuccess;
  return out.type == DType::kF32 ? LaunchRmsNorm<float>(stream, x, weight, eps, out)
                                 : LaunchRmsNorm<uint16_t>(stream, x, weight, eps, out);
}

cudaError_t Convert(cudaStream_t stream, MatView x, MatView out) {
  if (x.rows == 0) return cudaSuccess;
  if (x.type == DType::kF32) {
    return out.type == DType::kF32 ? LaunchConvert<float, float>(stream, x, out)
                                   : LaunchConvert<float, uint16_t>(stream, x, out);
  }
  return out.type == DType::kF32 ? LaunchConvert<uint16_t, float>(stream, x, out)
                                 : LaunchConvert<uint16_t, uint16_t>(stream, x, out);
}

cudaError_t Embed(cudaStream_t stream, const PackedMatrix& table, const int32_t* ids, MatView out) {
  if (out.rows == 0) return cudaSuccess;
  return table.type == DType::kF32 ? LaunchEmbed<float>(stream, table, ids, out)
                                   : LaunchEmbed<uint16_t>(stream, table, ids, out);
}

cudaError_t Clamp(cudaStream_t stream, MatView x, float limit) {
  if (x.rows == 0) return cudaSuccess;
  return Launch("clamp", ClampKernel, BlockPerRow(x.rows), stream, static_cast<float*>(x.data),
                x.stride, x.cols, limit);
}

cudaError_t Rope(cudaStream_t stream, HeadsView x, const float* cos_sin, int64_t rotary_dim,
                 bool interleaved, HeadsView out) {
  if (x.rows == 0) return cudaSuccess;
  const RopeShape shape{x.heads,      x.dim,         rotary_dim,     interleaved,
                        x.row_stride, x.head_stride, out.row_stride, out.head_stride};
  return out.type == DType::kF32 ? LaunchRope<float>(stream, x, cos_sin, shape, out.data)
                                 : LaunchRope<uint16_t>(stream, x, cos_sin, shape, out.data);
}

cudaError_t CopyRows(cudaStream_t stream, const void* const* rows, MatView out) {
  if (out.rows == 0) return cudaSuccess;
  return out.type == DType::kF32 ? LaunchCopyRows<float>(stream, rows, out)
                                 : LaunchCopyRows<uint16_t>(stream, rows, out);
}

cudaError_t Combine(cudaStream_t stream, const float* const* rows, const float* weights, int32_t k,
                    MatView shared, MatView out) {
  if (out.rows == 0) return cudaSuccess;
  return Launch("combine", CombineKernel, BlockPerRow(out.rows), stream, rows, weights, k,
                static_cast<const float*>(shared.data), shared.stride,
                static_cast<float*>(out.data), out.stride, out.cols);
}

}  // namespace ballast::cuda
