#include <algorithm>
#include <cmath>

#include "engine/concat.h"
#include "engine/model/config_parts.h"

namespace ballast {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr NumberRange kFactorRange = {1.0, 1e6};
constexpr NumberRange kNonNegative = {0.0, 1e6};
// Above 1, so that its logarithm can divide.
constexpr NumberRange kThetaRange = {1.0001, 1e15};

// The scale of YaRN's magnitude: grows with the logarithm of the stretch.
double YarnMagnitude(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

void ReadYarn(ConfigReader& rope, RopeConfig& config) {
  // Zero means unset to transformers (`or 32`).
  const double fast = rope.NumberOr("beta_fast", 0.0, kNonNegative);
  const double slow = rope.NumberOr("beta_slow", 0.0, kNonNegative);
  config.beta_fast = fast > 0.0 ? fast : 32.0;
  config.beta_slow = slow > 0.0 ? slow : 1.0;
  config.mscale = rope.NumberOr("mscale", 0.0, kNonNegative);
  config.attention_factor = rope.NumberOr("attention_factor", 0.0, kNonNegative);
  config.truncate = rope.BoolOr("truncate", true);
}

void ReadLlama3(ConfigReader& rope, RopeConfig& config) {
  config.low_freq_factor = rope.Number("low_freq_factor", {1e-3, 1e6});
  config.high_freq_factor = rope.Number("high_freq_factor", {1e-3, 1e6});
  if (config.high_freq_factor <= config.low_freq_factor) {
    rope.Wrong("high_freq_factor", Concat("more than low_freq_factor ", config.low_freq_factor));
  }
}

// theta^(2i/d)
float ThetaPower(const RopeConfig& rope, size_t i) {
  const float exponent = 2.0f * static_cast<float>(i) / static_cast<float>(rope.dim);
  // Through double and rounded once: the float powf of C libraries differ in the last bit.
  return static_cast<float>(
      std::pow(static_cast<double>(rope.theta), static_cast<double>(exponent)));
}

// Where in the frequencies a dimension turns `rotations` times over the original context.
double CorrectionDim(const RopeConfig& rope, double rotations) {
  return rope.dim * std::log(rope.original_max_position / (rotations * 2.0 * kPi)) /
         (2.0 * std::log(static_cast<double>(rope.theta)));
}

void ScaleYarn(const RopeConfig& rope, RopeFrequencies& frequencies) {
  double low = CorrectionDim(rope, rope.beta_fast);
  double high = CorrectionDim(rope, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, rope.dim - 1.0);
  if (low == high) high += 0.001;
  const float width = static_cast<float>(high - low);
  for (size_t i = 0; i < frequencies.inverse.size(); ++i) {
    const float position = (static_cast<float>(i) - static_cast<float>(low)) / width;
    const float keep = 1.0f - std::clamp(position, 0.0f, 1.0f);
    const float frequency = ThetaPower(rope, i);
    const float stretched = 1.0f / (static_cast<float>(rope.factor) * frequency);
    frequencies.inverse[i] = stretched * (1.0f - keep) + (1.0f / frequency) * keep;
  }
  double magnitude = rope.attention_factor;
  if (magnitude == 0.0) {
    magnitude = rope.mscale != 0.0 && rope.mscale_all_dim != 0.0
                    ? YarnMagnitude(rope.factor, rope.mscale) /
                          YarnMagnitude(rope.factor, rope.mscale_all_dim)
                    : YarnMagnitude(rope.factor, 1.0);
  }
  frequencies.magnitude = static_cast<float>(magnitude);
}

void ScaleLlama3(const RopeConfig& rope, RopeFrequencies& frequencies) {
  const float factor = static_cast<float>(rope.factor);
  const float original = static_cast<float>(rope.original_max_position);
  const float low = static_cast<float>(rope.low_freq_factor);
  const float high = static_cast<float>(rope.high_freq_factor);
  for (float& inverse : frequencies.inverse) {
    const float wavelength = static_cast<float>(2.0 * kPi) / inverse;
    if (wavelength > original / low) {
      inverse /= factor;
    } else if (wavelength >= original / high) {
      const float smooth = (original / wavelength - low) / (high - low);
      inverse = (1.0f - smooth) * inverse / factor + smooth * inverse;
    }
  }
}

}  // namespace

void ReadRope(ConfigReader& reader, float default_theta, ModelConfig& config) {
  RopeConfig& rope = config.rope;
  // As transformers: an old key wins over a new one.
  ConfigReader keys = reader.Child(reader.Has("rope_scaling") ? "rope_scaling" : "rope_parameters");
  rope.theta = static_cast<float>(keys.NumberOr(
      "rope_theta", reader.NumberOr("rope_theta", default_theta, kThetaRange), kThetaRange));
  if (keys.NumberOr("partial_rotary_factor",
                    reader.NumberOr("partial_rotary_factor", 1.0, kNonNegative),
                    kNonNegative) != 1.0) {
    reader.Unsupported("partial_rotary_factor other than 1");
  }
  if (keys.IsObject("full_attention") || keys.IsObject("sliding_attention")) {
    reader.Unsupported("rope_parameters by layer type");
  }
  if (rope.dim % 2 != 0) {
    reader.Fail(Concat("the rotary part of a head is ", rope.dim,
                       ", expected an even number "
                       "(head_dim or qk_rope_head_dim)"));
  }
  const std::string type = keys.StringOr("rope_type", keys.StringOr("type", "default"));
  if (type == "default") return;
  if (type != "linear" && type != "yarn" && type != "llama3") {
    reader.Unsupported(
        Concat("rope_type \"", type.substr(0, 40), "\", expected default, linear, llama3 or yarn"));
    return;
  }
  rope.original_max_position = keys.IntOr(
      "original_max_position_embeddings",
      reader.IntOr("original_max_position_embeddings", config.max_context, kPositionRange),
      kPositionRange);
  rope.mscale_all_dim = keys.NumberOr("mscale_all_dim", 0.0, kNonNegative);
  if (type == "yarn" && !keys.Has("factor")) {
    rope.factor = static_cast<double>(config.max_context) / rope.original_max_position;
  } else {
    rope.factor = keys.Number("factor", kFactorRange);
  }
  if (type == "linear") rope.scaling = RopeScaling::kLinear;
  if (type == "yarn") {
    rope.scaling = RopeScaling::kYarn;
    ReadYarn(keys, rope);
  }
  if (type == "llama3") {
    rope.scaling = RopeScaling::kLlama3;
    ReadLlama3(keys, rope);
  }
  // DeepSeek's MLA alone moves YaRN's magnitude into the scale of the scores, squared.
  if (config.attention == AttentionKind::kLatent && rope.mscale_all_dim != 0.0) {
    const double m = YarnMagnitude(rope.factor, rope.mscale_all_dim);
    config.attention_scale = static_cast<float>(m * m / std::sqrt(config.head_dim));
  }
}

RopeFrequencies ComputeRopeFrequencies(const RopeConfig& rope) {
  RopeFrequencies frequencies;
  frequencies.inverse.resize(static_cast<size_t>(rope.dim) / 2);
  for (size_t i = 0; i < frequencies.inverse.size(); ++i) {
    frequencies.inverse[i] = 1.0f / ThetaPower(rope, i);
  }
  switch (rope.scaling) {
    case RopeScaling::kNone:
      break;
    case RopeScaling::kLinear:
      for (float& inverse : frequencies.inverse) inverse /= static_cast<float>(rope.factor);
      break;
    case RopeScaling::kYarn:
      ScaleYarn(rope, frequencies);
      break;
    case RopeScaling::kLlama3:
      ScaleLlama3(rope, frequencies);
      break;
  }
  return frequencies;
}

}  // namespace ballast
