#include "kernels/cuda/quantize.h"

#include "kernels/cuda/arithmetic.h"
#include "kernels/cuda/eight_bit.h"
#include "kernels/cuda/launch.h"

namespace ballast::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int64_t kMostOfWarp = 512;  // columns; more would leave most of a GPU waiting for a row
constexpr uint32_t kInfinity = 0x7f800000u;

struct Int8 {
  static constexpr float kMost = kMostInt8;
  static __device__ uint8_t Encode(float x) { return ToInt8(x); }
  static __device__ float Decode(uint8_t code) { return FromInt8(code); }
};

struct E4M3 {
  static constexpr float kMost = kMostE4M3;
  static __device__ uint8_t Encode(float x) { return ToE4M3(x); }
  static __device__ float Decode(uint8_t code) { return FromE4M3(code); }
};

__device__ inline uint32_t Larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

// The largest of all threads that share a group. Those of a block call it together.
template <bool kWholeBlock>
__device__ uint32_t LargestOfGroup(uint32_t size, int thread) {
  for (int flip = 16; flip >= 1; flip /= 2) {
    size = Larger(size, __shfl_xor_sync(kAllLanes, size, flip));
  }
  if constexpr (!kWholeBlock) return size;
  SHARED_ARRAY(uint32_t, of_warps, kWarps);
  if (thread % 32 == 0) of_warps[thread / 32] = size;
  __syncthreads();
  for (int warp = 0; warp < kWarps; ++warp) size = Larger(size, of_warps[warp]);
  return size;
}

// Bits without the sign are ordered as sizes are, with infinity and then NaN above all numbers.
template <typename Format, typename In, bool kWholeBlock>
__global__ void __launch_bounds__(kThreads)
    QuantizeKernel(const In* x, int64_t x_stride, EightBitView out) {
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t row_groups = (out.cols + out.group - 1) / out.group;
  const int64_t number =
      kWholeBlock ? int64_t{blockIdx.x} : int64_t{blockIdx.x} * kWarps + thread / 32;
  if (number >= out.rows * row_groups) return;  // whole warps, which have no barrier
  constexpr int kStep = kWholeBlock ? kThreads : 32;
  const int64_t row = number / row_groups;
  const int64_t first = number % row_groups * out.group;
  const int64_t left = out.cols - first;
  const int64_t count = left < out.group ? left : out.group;
  const In* const from = x + row * x_stride + first;
  uint32_t size = 0;
  for (int64_t i = thread % kStep; i < count; i += kStep) {
    size = Larger(size, __float_as_uint(Load(from + i)) & 0x7fffffffu);
  }
  size = LargestOfGroup<kWholeBlock>(size, thread);
  const bool is_number = size < kInfinity;
  const float scale =
      is_number ? __uint_as_float(size) / Format::kMost : __uint_as_float(0x7fc00000u);
  uint8_t* const to = out.codes + row * out.stride + first;
  for (int64_t i = thread % kStep; i < count; i += kStep) {
    to[i] = scale > 0.0f ? Format::Encode(Load(from + i) / scale) : uint8_t{0};
  }
  if (thread % kStep == 0) out.scales[row * out.scale_stride + number % row_groups] = scale;
}

template <typename Format, typename Out>
__global__ void __launch_bounds__(kThreads)
    DequantizeKernel(EightBitView x, Out* out, int64_t out_stride) {
  const uint8_t* const codes = x.codes + blockIdx.x * x.stride;
  const float* const scales = x.scales + blockIdx.x * x.scale_stride;
  Out* const to = out + blockIdx.x * out_stride;
  for (int64_t i = threadIdx.x; i < x.cols; i += kThreads) {
    Store(to + i, Format::Decode(codes[i]) * scales[i / x.group]);
  }
}

template <typename Format, typename In>
cudaError_t LaunchQuantize(cudaStream_t stream, MatView x, const EightBitView& out) {
  const int64_t groups = out.rows * GroupsOfRow(out.cols, out.group);
  const auto* const from = static_cast<const In*>(x.data);
  if (out.group > kMostOfWarp) {
    return Launch("quantize", QuantizeKernel<Format, In, true>,
                  {dim3(static_cast<unsigned>(groups)), dim3(kThreads)}, stream, from, x.stride,
                  out);
  }
  const int64_t blocks = (groups + kWarps - 1) / kWarps;
  return Launch("quantize", QuantizeKernel<Format, In, false>,
                {dim3(static_cast<unsigned>(blocks)), dim3(kThreads)}, stream, from, x.stride, out);
}

template <typename Format>
cudaError_t QuantizeTo(cudaStream_t stream, MatView x, const EightBitView& out) {
  return x.type == DType::kF32 ? LaunchQuantize<Format, float>(stream, x, out)
                               : LaunchQuantize<Format, uint16_t>(stream, x, out);
}

template <typename Format>
cudaError_t DequantizeFrom(cudaStream_t stream, const EightBitView& x, MatView out) {
  const LaunchShape shape{dim3(static_cast<unsigned>(x.rows)), dim3(kThreads)};
  if (out.type == DType::kF32) {
    return Launch("dequantize", DequantizeKernel<Format, float>, shape, stream, x,
                  static_cast<float*>(out.data), out.stride);
  }
  return Launch("dequantize", DequantizeKernel<Format, uint16_t>, shape, stream, x,
                static_cast<uint16_t*>(out.data), out.stride);
}

}  // namespace

cudaError_t Quantize(cudaStream_t stream, MatView x, const EightBitView& out) {
  if (out.group <= 0) return cudaErrorInvalidValue;
  if (out.rows == 0 || out.cols == 0) return cudaSuccess;
  return out.format == EightBit::kInt8 ? QuantizeTo<Int8>(stream, x, out)
                                       : QuantizeTo<E4M3>(stream, x, out);
}

cudaError_t Dequantize(cudaStream_t stream, const EightBitView& x, MatView out) {
  if (x.group <= 0) return cudaErrorInvalidValue;
  if (x.rows == 0 || x.cols == 0) return cudaSuccess;
  return x.format == EightBit::kInt8 ? DequantizeFrom<Int8>(stream, x, out)
                                     : DequantizeFrom<E4M3>(stream, x, out);
}

}  // namespace ballast::cuda
