// The kernel set that the others are measured against: plain C++, one element at a time.
#include <bit>
#include <cmath>
#include <initializer_list>
#include <limits>

#include "kernels/cpu/inner_loops.h"
#include "kernels/cpu/number.h"

namespace ballast {
namespace {

float Exp(float x) {
  if (std::isnan(x)) return x;
  if (x < kExpLow) x = kExpLow;
  if (x > kExpHigh) x = kExpHigh;
  const float n = std::fma(x, kLog2E, kRound) - kRound;
  float r = std::fma(n, kMinusLn2High, x);
  r = std::fma(n, kMinusLn2Low, r);
  float p = kExp0;
  for (const float c : {kExp1, kExp2, kExp3, kExp4, kExp5}) p = std::fma(p, r, c);
  const float y = std::fma(p, r * r, r) + 1.0f;
  return std::ldexp(y, static_cast<int>(n));
}

// 16 interleaved partial sums.
class Lanes {
 public:
  float& operator[](int64_t i) { return lanes_[i % kLanes]; }
  float Sum() {
    for (int64_t half = kLanes / 2; half >= 1; half /= 2) {
      for (int64_t j = 0; j < half; ++j) lanes_[j] += lanes_[j + half];
    }
    return lanes_[0];
  }

 private:
  float lanes_[kLanes] = {};
};

void StoreAs(bool to_bf16, void* out, int64_t i, float x) {
  StoreFloat(out, to_bf16 ? DType::kBF16 : DType::kF32, i, x);
}

template <DType kX, DType kW>
void Dot(const DotTile& tile) {
  for (int64_t r = 0; r < tile.rows; ++r) {
    for (int64_t column = 0; column < tile.panels * kLanes; ++column) {
      const int64_t lane = column % kLanes;
      float sum = tile.accumulate ? tile.out[r * tile.out_stride + column] : 0.0f;
      for (int64_t k = 0; k < tile.k; ++k) {
        const char* panel = tile.segments[k / tile.segment_k] + tile.panel_offsets[column / kLanes];
        const int64_t row = k % tile.segment_k;
        const int64_t at =
            kW == DType::kF32 ? row * kLanes + lane : (row / 2 * kLanes + lane) * 2 + row % 2;
        sum = std::fma(LoadFloat(tile.x, kX, r * tile.x_stride + k), LoadFloat(panel, kW, at), sum);
      }
      tile.out[r * tile.out_stride + column] = sum;
    }
  }
}

void Round(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = ToBf16(x[i]);
}

void AddTo(const float* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] += x[i];
}

void RmsNorm(const float* x, const float* weight, int64_t n, float eps, bool to_bf16, void* out) {
  Lanes squares;
  for (int64_t i = 0; i < n; ++i) squares[i] = std::fma(x[i], x[i], squares[i]);
  const float scale = 1.0f / std::sqrt(squares.Sum() / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; ++i) StoreAs(to_bf16, out, i, x[i] * scale * weight[i]);
}

void Swiglu(const float* gate, const float* up, int64_t n, bool to_bf16, void* out) {
  for (int64_t i = 0; i < n; ++i) {
    StoreAs(to_bf16, out, i, gate[i] / (1.0f + Exp(-gate[i])) * up[i]);
  }
}

void Sigmoid(const float* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = 1.0f / (1.0f + Exp(-x[i]));
}

void Divide(const float* x, int64_t n, float divisor, bool to_bf16, void* out) {
  for (int64_t i = 0; i < n; ++i) StoreAs(to_bf16, out, i, x[i] / divisor);
}

void Exponentials(float* s, int64_t begin, int64_t end, float scale, uint16_t* rounded, float* max,
                  float* sum) {
  float top = -std::numeric_limits<float>::infinity();
  for (int64_t i = begin; i < end; ++i) top = scale * s[i] > top ? scale * s[i] : top;
  Lanes lanes;
  for (int64_t i = begin / kLanes * kLanes; i < end; ++i) {
    const float e = i < begin ? 0.0f : Exp(scale * s[i] - top);
    lanes[i] += e;
    StoreAs(rounded != nullptr, rounded != nullptr ? static_cast<void*>(rounded) : s, i, e);
  }
  *max = top;
  *sum = lanes.Sum();
}

void Merge(float part_max, float part_sum, const float* part, int64_t n, float* max, float* sum,
           float* out) {
  const float top = part_max > *max ? part_max : *max;
  const float a = Exp(*max - top);
  const float b = Exp(part_max - top);
  *max = top;
  *sum = std::fma(part_sum, b, *sum * a);
  for (int64_t i = 0; i < n; ++i) out[i] = std::fma(part[i], b, out[i] * a);
}

void Combine(const float* const* rows, const float* weights, int64_t k, const float* shared,
             int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    float s = 0.0f;
    for (int64_t j = 0; j < k; ++j) s = std::fma(weights[j], rows[j][i], s);
    if (shared != nullptr) s += shared[i];
    out[i] += s;
  }
}

float Largest(const float* x, int64_t n, bool* finite) {
  float top = -std::numeric_limits<float>::infinity();
  *finite = true;
  for (int64_t i = 0; i < n; ++i) {
    top = x[i] > top ? x[i] : top;
    *finite &= std::isfinite(x[i]);
  }
  return top;
}

void SampleWeights(const float* x, int64_t n, float max, float temperature, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] = std::nearbyint(Exp((x[i] - max) / temperature) * 0x1p40f);
  }
}

constexpr uint8_t kPanels[] = {0, 1, 1, 1, 1};

}  // namespace

const InnerLoops kReferenceLoops = {
    .name = "reference",
    .max_rows = 4,
    .panels = kPanels,
    .dot_f32_f32 = Dot<DType::kF32, DType::kF32>,
    .dot_f32_bf16 = Dot<DType::kF32, DType::kBF16>,
    .dot_bf16_bf16 = Dot<DType::kBF16, DType::kBF16>,
    .round = Round,
    .add = AddTo,
    .rms_norm = RmsNorm,
    .swiglu = Swiglu,
    .sigmoid = Sigmoid,
    .divide = Divide,
    .exponentials = Exponentials,
    .merge = Merge,
    .combine = Combine,
    .largest = Largest,
    .sample_weights = SampleWeights,
};

}  // namespace ballast
